"""Why a task does not run yet, or what became of it: one sentence and its evidence.

In:  an app and the id of a task.  Out: a Reason, whose `cause` is one of CAUSES. Nothing is printed.
Before this: qctl/fleet/reason_facts.py, which asks.  After this: `qctl task why`, the dashboard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from qcore.base.times import epoch
from qcore.errors import did_you_mean
from qcore.wire import identity
from qcore.wire import task as task_wire
from qcore.wire.event import finite_number
from qctl.fleet.reason_facts import Consumers, InQueue, TaskFacts, consumers, gather, running_at
from qctl.output.text import age, count, stamp

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.wire.task import TaskMessage
    from qctl.fleet.tasks_at_workers import HeldTask

RUNNING, BEHIND, PREFETCHED = "running", "behind", "prefetched"
PAUSED_QUEUE, NO_CONSUMER, UNKNOWN_TASK = "paused_queue", "no_consumer", "unknown_task"
WAITS_FOR_TIME, RATE_LIMITED = "waits_for_time", "rate_limited"
REVOKED, EXPIRED, SILENT_WORKER = "revoked", "expired", "silent_worker"
FINISHED, SET_ASIDE, UNKNOWN_ID = "finished", "set_aside", "unknown_id"
CAUSES = (
    *(RUNNING, BEHIND, PREFETCHED, PAUSED_QUEUE, NO_CONSUMER, UNKNOWN_TASK, WAITS_FOR_TIME, RATE_LIMITED),
    *(REVOKED, EXPIRED, SILENT_WORKER, FINISHED, SET_ASIDE, UNKNOWN_ID),
)
#: running tasks that are named as evidence
NAMED = 3
#: a task that was just between two places is looked for again after this time, seconds
AGAIN_S = 0.3


class Usual(NamedTuple):
    """How long runs of a task took: 95 of 100 at most p95_s, among so many."""

    p95_s: float
    runs: int


#: the usual run time of the task of that name; None: unknown
FindUsual = Callable[[str], Usual | None]


class Reason(msgspec.Struct, frozen=True):
    """Why a task is where it is."""

    id: str
    cause: str  # one of CAUSES
    sentence: str
    evidence: list[str] = []
    name: str | None = None
    queue: str | None = None
    worker: str | None = None
    is_certain: bool = True  # False: workers did not answer, and one of them may have it


def why(app: App, task_id: str, usual: FindUsual | None = None) -> Reason:
    """Ask the broker, the workers and the result store. Raises BrokerDown."""
    facts = gather(app, task_id)
    reason = _conclude(app, facts, usual)
    if reason is None:  # between two places: it is in one of them by now
        time.sleep(AGAIN_S)
        facts = gather(app, task_id)
        reason = _conclude(app, facts, usual) or _unknown(app, facts)
    return reason


def _conclude(app: App, facts: TaskFacts, usual: FindUsual | None) -> Reason | None:
    if facts.result is not None and facts.result.is_ready and facts.held is None:
        return _finished(facts)
    if facts.held is not None:
        return _at_worker(app, facts, facts.held, usual)
    if facts.waiting is not None:
        return _in_queue(app, facts, facts.waiting)
    if facts.holder is not None:
        return _in_flight(facts)
    if facts.quarantined is not None:
        return _set_aside(facts)
    if facts.failure is not None:
        when = stamp(facts.failure.failed_at, False)
        evidence = [
            f"its error: {facts.failure.exception}",
            f"`qctl failed show {facts.id}` has the traceback",
        ]
        return _reason(facts, FINISHED, f"It has failed at {when}.", evidence, _About(facts.failure.name))
    return None


class _About(NamedTuple):
    """The task's name, its queue, and the worker that has it; None: unknown."""

    name: str | None = None
    queue: str | None = None
    worker: str | None = None


def _reason(
    facts: TaskFacts,
    cause: str,
    sentence: str,
    evidence: list[str],
    about: _About,
    is_certain: bool = True,
) -> Reason:
    name, queue, worker = (part or None for part in about)
    return Reason(facts.id, cause, sentence, evidence, name, queue, worker, is_certain)


def _silence(facts: TaskFacts) -> list[str]:
    """The workers that did not answer, as evidence."""
    found = []
    for one in facts.silent:
        last = f"last heartbeat {age(one.age_s)} ago" if one.age_s is not None else "a worker of Celery"
        found.append(f"{one.node} did not answer ({last})")
    return found


# --- at a worker


def _at_worker(app: App, facts: TaskFacts, held: HeldTask, usual: FindUsual | None) -> Reason:
    about = _About(held.name, held.queue, held.worker)
    of_celery = facts.is_of_celery(held.worker)
    if held.state == "running":
        return _runs(facts, held, usual)
    if held.state == "delayed":
        when = _moment(facts.celery_eta)
        until = f"until {stamp(when, False)} ({age(when - facts.at)})" if when else "until its time"
        words = f"It waits for its time: {held.worker}, a worker of Celery, holds it {until}."
        return _reason(facts, WAITS_FOR_TIME, words, _celery_words(), about)
    if facts.is_revoked:
        words = f"It is revoked: {held.worker} holds it and will not start it."
        return _reason(facts, REVOKED, words, [], about)
    running = running_at(app, held.worker)
    evidence = [_running_words(one, facts.at) for one in running[:NAMED]]
    if len(running) > NAMED:
        evidence.append(f"and {count(len(running) - NAMED, 'other task')}")
    if of_celery:
        evidence += _celery_words()
    if not running:
        words = f"{held.worker} holds it and runs nothing else: it starts now."
        return _reason(facts, PREFETCHED, words, evidence, about)
    first = running[0]
    since = "" if first.started_at is None else f", which has run for {age(facts.at - first.started_at)}"
    words = f"{held.worker} has prefetched it and runs {first.name} first{since}."
    return _reason(facts, PREFETCHED, words, evidence, about)


def _runs(facts: TaskFacts, held: HeldTask, usual: FindUsual | None) -> Reason:
    evidence, since = [], ""
    if held.started_at is not None:
        for_s = facts.at - held.started_at
        since = f" since {stamp(held.started_at, False)}, for {age(for_s)}"
        found = usual(held.name) if usual is not None else None
        if found is None:
            evidence.append("its usual time is unknown; `qctl task record` keeps a history")
        elif for_s > found.p95_s:
            since += f", which is over its usual time of {age(found.p95_s)}"
            evidence.append(
                f"95 of 100 runs took at most {age(found.p95_s)}, of {found.runs:,} in the history"
            )
        else:
            evidence.append(f"within its usual time: 95 of 100 runs took at most {age(found.p95_s)}")
    if facts.is_revoked:
        evidence.append("it is revoked, which does not stop a run; `qctl task revoke --terminate` does")
    if facts.is_of_celery(held.worker):
        evidence.append(f"{held.worker} is a worker of Celery: where in its code the task is cannot be known")
    else:
        evidence.append(f"`qctl task stack {facts.id}` says where in its code it is")
    words = f"It runs at {held.worker}{since}."
    return _reason(facts, RUNNING, words, evidence, _About(held.name, held.queue, held.worker))


def _celery_words() -> list[str]:
    return [
        "when it starts cannot be known: Celery's workers tell no order, and return nothing they prefetched"
    ]


def _running_words(one: HeldTask, now: float) -> str:
    since = "" if one.started_at is None else f", for {age(now - one.started_at)}"
    return f"{one.worker} runs {one.name} {one.id}{since}"


def _in_flight(facts: TaskFacts) -> Reason | None:
    """A worker has the message, and none that answered says so."""
    holder = facts.holder
    assert holder is not None
    silent = facts.silent_named(holder.node)
    member = facts.members.get(holder.node)
    if holder.node and silent is None and member is not None and member.alive:
        return None  # it has just got it, or just settled it
    about = _About(_name_in(holder.raw), holder.queue, holder.node)
    evidence = _silence(facts)
    if holder.by_celery:
        words = "A worker of Celery holds it and does not say so: which one cannot be known."
        evidence.append("it returns to its queue when the visibility timeout has passed, by default an hour")
        return _reason(facts, SILENT_WORKER, words, evidence, about)
    who = holder.node or "a worker that does not answer"
    if member is not None and silent is None:
        evidence.append(f"the last heartbeat of {who} was {age(facts.at - member.seen_at)} ago")
    left_s = 0.0 if holder.until is None else holder.until - facts.at
    ends = f"its lease ends in {age(left_s)} unless it is renewed" if left_s > 0 else "its lease has ended"
    words = f"{who} holds it and does not answer; {ends}, and then another worker gets the task."
    return _reason(facts, SILENT_WORKER, words, evidence, about)


def _name_in(raw: bytes) -> str | None:
    from qcore.errors import Malformed

    try:
        return task_wire.read(raw).shown_name
    except Malformed:
        return None


# --- in a queue


def _in_queue(app: App, facts: TaskFacts, place: InQueue) -> Reason:
    queue, message = place.one.queue, place.message
    if message is None:
        words = (
            f"It waits in '{queue}', and its message cannot be read: the worker that takes it sets it aside."
        )
        return _reason(facts, SET_ASIDE, words, [], _About(None, queue))
    about = _About(message.shown_name, queue)
    if facts.is_revoked:
        words = f"It is revoked: it waits in '{queue}', and the worker that takes it drops it."
        return _reason(facts, REVOKED, words, ["`qctl task unrevoke` undoes that"], about)
    if message.expires is not None and message.expires <= facts.at:
        when = f"at {stamp(message.expires, False)}, {age(facts.at - message.expires)} ago"
        words = f"It expired {when}: it waits in '{queue}', and the worker that takes it drops it."
        return _reason(facts, EXPIRED, words, [], about)
    asked = consumers(app, queue, message.task, facts.answered)
    due_at = place.one.due_at if place.one.due_at is not None else message.eta
    if due_at is not None and due_at > facts.at:
        return _not_due(facts, place, message, asked, due_at)
    pause = facts.pauses.get(queue)
    if pause is not None:
        by = f" by {pause.by}" if pause.by else ""
        since = f" since {stamp(pause.at, False)}" if pause.at is not None else ""
        until = f" until {stamp(pause.until, False)}" if pause.until is not None else ""
        evidence = [f"the reason given: {pause.reason}"] if pause.reason else []
        evidence += [_position(place), f"`qctl queue resume {queue}` ends it"]
        return _reason(
            facts, PAUSED_QUEUE, f"The queue '{queue}' is paused{by}{since}{until}.", evidence, about
        )
    if not asked.nodes:
        return _no_consumer(facts, place, asked, about)
    if asked.names and not asked.knowing(message.task):
        return _unknown_task(facts, message.task, asked, about)
    return _behind(facts, place, message, asked)


def _position(place: InQueue) -> str:
    if place.one.due_at is not None:
        return "it is due now"
    if not place.before:
        return "it is the next one"
    parts = []
    if place.more_urgent:
        parts.append(f"{place.more_urgent:,} of higher priority")
    if place.older:
        parts.append(f"{place.older:,} older")
    return f"before it: {' and '.join(parts)}"


def _not_due(
    facts: TaskFacts, place: InQueue, message: TaskMessage, asked: Consumers, due_at: float
) -> Reason:
    queue = place.one.queue
    when = f"{stamp(due_at, False)}, in {age(due_at - facts.at)}"
    about = _About(message.shown_name, queue)
    is_own_time = message.eta is not None and abs(message.eta - due_at) < 1.0
    if not is_own_time and asked.limits:
        evidence = [
            f"{node} starts at most {limit} of {message.task}" for node, limit in sorted(asked.limits.items())
        ]
        evidence.append(f"`qctl control rate_limit {message.task} 0` ends the limit")
        words = f"It is rate-limited: its turn is at {when}."
        return _reason(facts, RATE_LIMITED, words, evidence, about)
    evidence = []
    if message.retries:
        evidence.append(f"it is retry number {message.retries}")
    evidence.append(f"it waits in '{queue}'")
    if queue in facts.pauses:
        evidence.append(f"'{queue}' is paused, too")
    elif not asked.nodes:
        evidence += [f"no worker consumes from '{queue}' now", *_silence(facts)]
    return _reason(facts, WAITS_FOR_TIME, f"It waits for its time: {when}.", evidence, about)


def _no_consumer(facts: TaskFacts, place: InQueue, asked: Consumers, about: _About) -> Reason:
    queue = place.one.queue
    evidence = [_position(place)]
    if not facts.answered:
        evidence.append("no worker is online" if not facts.silent else "no worker answers")
    for node, queues in sorted(asked.others.items())[:NAMED]:
        evidence.append(f"{node} consumes from {', '.join(queues) or 'no queue: it is draining'}")
    if len(asked.others) > NAMED:
        evidence.append(f"and {count(len(asked.others) - NAMED, 'other worker')} from others")
    evidence += _silence(facts)
    near = did_you_mean(queue, {q for queues in asked.others.values() for q in queues})
    words = f"No worker{' that answered' if facts.silent else ''} consumes from the queue '{queue}'{near}"
    words = words if near else f"{words}."
    return _reason(facts, NO_CONSUMER, words, evidence, about, is_certain=not facts.silent)


def _unknown_task(facts: TaskFacts, task: str, asked: Consumers, about: _About) -> Reason:
    known = {name for names in asked.names.values() for name in names}
    words = f"No worker of its queue has a task named '{task}'{did_you_mean(task, known)}"
    evidence = [
        f"{node} has {count(len(names), 'task')}" for node, names in sorted(asked.names.items())[:NAMED]
    ]
    evidence.append("the worker that takes it sets it aside; `qctl quarantine ls` lists those")
    return _reason(facts, UNKNOWN_TASK, words if words.endswith("?") else f"{words}.", evidence, about)


def _behind(facts: TaskFacts, place: InQueue, message: TaskMessage, asked: Consumers) -> Reason:
    queue = place.one.queue
    evidence = []
    lacking = sorted(set(asked.nodes) - set(asked.knowing(message.task)))
    if lacking and asked.names:
        evidence.append(f"not registered at {', '.join(lacking[:NAMED])}")
    if asked.slots is not None:
        evidence.append(
            f"{len(asked.running):,} of {asked.slots:,} slots of {count(len(asked.nodes), 'worker')} are busy"
        )
    oldest = sorted(asked.running, key=lambda one: one.started_at or facts.at)
    evidence += [_running_words(one, facts.at) for one in oldest[:NAMED]]
    if asked.per_s:
        needs = f", so about {age(place.before / asked.per_s)} for those before it" if place.before else ""
        evidence.append(f"they take {asked.per_s:,.1f} messages of the queue in a second{needs}")
    if any(facts.is_of_celery(node) for node in asked.nodes):
        evidence.append("how fast Celery's workers take messages is not known")
    evidence += _silence(facts)
    if place.before:
        parts = _position(place).removeprefix("before it: ")
        words = f"It is behind {count(place.before, 'message')} in '{queue}': {parts}."
    else:
        words = f"It is the next one in '{queue}', and waits for a free slot."
    return _reason(facts, BEHIND, words, evidence, _About(message.shown_name, queue))


# --- finished, set aside, unknown


def _finished(facts: TaskFacts) -> Reason:
    meta = facts.result
    assert meta is not None
    done = _moment(meta.date_done or "")
    when = f" at {stamp(done, False)}" if done is not None else ""
    about = _About(meta.name, meta.queue, meta.worker)
    kind, text = _exception(meta.result)
    if meta.status == "REVOKED":
        if text == "expired":
            words = f"It expired before a worker could start it, and was dropped{when}."
            return _reason(facts, EXPIRED, words, [], about)
        how = "ended while it ran" if text == "terminated" else "not started"
        return _reason(facts, REVOKED, f"It is revoked, and was {how}{when}.", [], about)
    if meta.status == "FAILURE" and kind == "NotRegistered":
        set_aside = _set_aside(facts) if facts.quarantined is not None else None
        evidence = [text, *(set_aside.evidence if set_aside else [])]
        words = f"No worker of its queue had a task of its name{when}."
        return _reason(facts, UNKNOWN_TASK, words, evidence, about)
    if meta.status == "SUCCESS":
        words = f"It has succeeded{when}."
        return _reason(facts, FINISHED, words, [f"`qctl result {facts.id}` prints its result"], about)
    evidence = [f"its error: {kind}({text!r})"] if kind else []
    evidence.append(f"`qctl task show {facts.id}` has the traceback")
    return _reason(facts, FINISHED, f"It has failed{when}.", evidence, about)


def _exception(value: object) -> tuple[str, str]:
    """The type of a stored exception, and its message."""
    if isinstance(value, BaseException):
        return type(value).__name__, str(value)
    if not isinstance(value, Mapping):
        return "", ""
    message = value.get("exc_message")
    parts = message if isinstance(message, list | tuple) else [message]
    return str(value.get("exc_type") or ""), ", ".join(str(part) for part in parts)


def _set_aside(facts: TaskFacts) -> Reason:
    entry = facts.quarantined
    assert entry is not None
    name = _name_in(entry.raw)
    evidence = [f"set aside at {stamp(entry.at, False)}; `qctl quarantine replay {entry.id}` sends it again"]
    if entry.reason == "unregistered":
        words = f"No worker of the queue '{entry.queue}' had a task named '{name}'."
        return _reason(facts, UNKNOWN_TASK, words, evidence, _About(name, entry.queue))
    words = f"Its message was set aside, because of: {entry.reason}."
    return _reason(facts, SET_ASIDE, words, evidence, _About(name, entry.queue))


def _unknown(app: App, facts: TaskFacts) -> Reason:
    """Nobody has it."""
    evidence = [*_silence(facts), *facts.unseen]
    if facts.is_revoked:
        words = "It is revoked, and no queue, worker or result knows it: it will not start if it is sent."
        return _reason(facts, REVOKED, words, evidence, _About())
    if facts.silent:
        named = ", ".join(one.node for one in facts.silent)
        words = f"No queue, result or worker that answered knows it; it may be at {named}."
        return _reason(facts, UNKNOWN_ID, words, evidence, _About(), is_certain=False)
    if not facts.queues_read:
        words = "No worker or result knows it; it may wait in a queue, which this broker cannot tell."
        return _reason(facts, UNKNOWN_ID, words, evidence, _About(), is_certain=False)
    words = "No queue, worker or result knows it: its id is wrong, or its result has expired."
    kept_s = app.conf.seconds("result_expires")
    sent_at = identity.sent_at(facts.id)
    if sent_at is not None and not facts.unseen:
        ago_s = facts.at - sent_at
        evidence.append(f"its id was made {age(ago_s)} ago, at {stamp(sent_at, False)}")
        if kept_s is not None and ago_s > kept_s:
            words = f"It is over: it was sent {age(ago_s)} ago, and results are kept for {age(kept_s)}."
        elif kept_s is not None:
            words = "No queue, worker or result knows it: it was purged, or it stores no result."
    if kept_s is not None:
        evidence.append(f"results are kept for {age(kept_s)} (result_expires)")
    evidence.append("`qctl task record` keeps a history of tasks")
    return _reason(facts, UNKNOWN_ID, words, evidence, _About())


def _moment(text: str) -> float | None:
    """Epoch seconds of a time that a worker or a result has; None when it cannot be read."""
    try:
        return finite_number(epoch(text)) if text else None
    except ValueError:
        return None
