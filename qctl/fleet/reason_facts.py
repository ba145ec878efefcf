"""What the broker, the workers and the result store know of one task, for fleet/reasons.py.

In:  an app and the id of a task.  Out: TaskFacts. The order is that in which tasks progress, so that one
that moves meanwhile is not missed: queues, workers, messages in flight, results.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from qcore.brokers.contract.administration import Holder, Pause, Waiting
from qcore.brokers.contract.records import Member, Quarantined
from qcore.brokers.shared.message_ids import id_of
from qcore.errors import Malformed, Unsupported
from qcore.wire import task as task_wire
from qcore.wire.result import ResultMeta
from qcore.wire.task import TaskMessage
from qctl.fleet.tasks_at_workers import HeldTask, held_task

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.control.client import Answers, SilentWorker
    from qcore.wire.failure import FailedTask

ASK_S = 1.0
#: messages of one queue, and of the quarantine, that are read
MOST_MESSAGES = 100_000
MOST_QUARANTINED = 1_000


class InQueue(msgspec.Struct):
    """The message of a task that waits, and what is before it in its queue."""

    one: Waiting
    message: TaskMessage | None  # None: it cannot be read
    more_urgent: int = 0
    older: int = 0

    @property
    def before(self) -> int:
        return self.more_urgent + self.older


class TaskFacts(msgspec.Struct):
    """What is known of one task at a moment."""

    id: str
    at: float
    waiting: InQueue | None = None
    held: HeldTask | None = None  # as a worker tells it
    celery_eta: str = ""  # when a worker of Celery that holds it will start it
    holder: Holder | None = None  # as the broker tells it
    result: ResultMeta | None = None
    failure: FailedTask | None = None
    quarantined: Quarantined | None = None
    is_revoked: bool = False
    answered: list[str] = []
    silent: list[SilentWorker] = []
    members: dict[str, Member] = {}
    pauses: dict[str, Pause] = {}
    queues_read: bool = True
    #: what was not looked at, and why
    unseen: list[str] = []

    def silent_named(self, node: str) -> SilentWorker | None:
        return next((one for one in self.silent if one.node == node), None)

    def is_of_celery(self, node: str) -> bool:
        return node not in self.members


def gather(app: App, task_id: str, timeout_s: float = ASK_S) -> TaskFacts:
    """Look everywhere. Raises BrokerDown."""
    broker, facts = app.broker, TaskFacts(task_id, time.time())
    facts.pauses = {pause.queue: pause for pause in broker.administration.pauses()}
    facts.waiting = _waiting(app, task_id, facts)
    answers = app.control.ask("query_task", {"ids": [task_id]}, None, timeout_s)
    facts.answered, facts.silent, facts.members = sorted(answers.replies), answers.silent, answers.members
    facts.held = _held(task_id, answers) or _timed_by_celery(app, task_id, facts, timeout_s)
    if facts.held is None and facts.waiting is None:
        try:
            facts.holder = broker.administration.holder(task_id)
        except Unsupported as exc:
            facts.unseen.append(f"what workers hold is unknown: {exc}")
    facts.is_revoked = _is_revoked(app, task_id)
    if app.results.keeps:
        (facts.result,) = app.results.get([task_id])
    else:
        facts.unseen.append("results are not stored")
    try:
        (facts.failure,) = broker.failed_tasks.of([task_id])
    except Unsupported:
        pass  # this broker stores no failed tasks
    if facts.waiting is None and facts.held is None and facts.holder is None:
        facts.quarantined = _quarantined(app, task_id)
    return facts


def _waiting(app: App, task_id: str, facts: TaskFacts) -> InQueue | None:
    administration = app.broker.administration
    if not app.broker.features.moves:
        facts.queues_read = False
        facts.unseen.append("this broker cannot list the messages of a queue")
        return None
    mark = task_id.encode()
    for queue in sorted({*administration.queues(), *facts.pauses}):
        urgencies: dict[int, int] = {}
        for number, one in enumerate(administration.waiting(queue)):
            if number >= MOST_MESSAGES:
                facts.queues_read = False
                facts.unseen.append(f"only the first {MOST_MESSAGES:,} messages of '{queue}' were read")
                break
            if mark in one.raw and id_of(one.raw) == task_id:
                return _in_queue(one, urgencies)
            if one.due_at is None:
                urgencies[one.priority] = urgencies.get(one.priority, 0) + 1
    return None


def _in_queue(one: Waiting, urgencies: Mapping[int, int]) -> InQueue:
    """urgencies: how many messages are before it, by their priority."""
    try:
        message: TaskMessage | None = task_wire.read(one.raw)
    except Malformed:
        message = None
    older = urgencies.get(one.priority, 0) if one.due_at is None else 0
    before = sum(urgencies.values()) if one.due_at is None else 0
    return InQueue(one, message, before - older, older)


def _held(task_id: str, answers: Answers) -> HeldTask | None:
    found: list[HeldTask] = []
    for worker, tasks in answers.replies.items():
        for value in tasks.values() if isinstance(tasks, dict) else ():
            if isinstance(value, list | tuple) and len(value) == 2:
                state = {"active": "running", "scheduled": "delayed"}.get(str(value[0]), "reserved")
                # A message in a delayed set is told by every worker of its queue; the queue says more.
                if state != "delayed" and (one := held_task(value[1], state, worker)) is not None:
                    found.append(one)
    mine = [one for one in found if one.id == task_id]
    return next((one for one in mine if one.state == "running"), mine[0] if mine else None)


def _timed_by_celery(app: App, task_id: str, facts: TaskFacts, timeout_s: float) -> HeldTask | None:
    """A task that a worker of Celery holds until its time."""
    nodes = [node for node in facts.answered if facts.is_of_celery(node)]
    if not nodes:
        return None
    for node, entries in app.control.ask("scheduled", {}, nodes, timeout_s).replies.items():
        for entry in entries if isinstance(entries, list) else ():
            one = held_task(entry, "delayed", node)
            if one is not None and one.id == task_id:
                facts.celery_eta = str(entry.get("eta") or "")
                return one
    return None


def _is_revoked(app: App, task_id: str) -> bool:
    if app.broker.features.revoked_lookup:
        return task_id in app.broker.revoked_among([task_id])
    return task_id in app.broker.revoked()


def _quarantined(app: App, task_id: str) -> Quarantined | None:
    try:
        found = app.broker.administration.quarantined(MOST_QUARANTINED)
    except Unsupported:
        return None
    mark = task_id.encode()
    return next((one for one in found if mark in one.raw and id_of(one.raw) == task_id), None)


# --- what else is asked when the task waits in a queue


class Consumers(msgspec.Struct):
    """The workers that consume from a queue, as far as they answered."""

    nodes: list[str]
    others: dict[str, list[str]]  # what the other workers consume from
    names: dict[str, list[str]]  # the registered tasks of each consumer
    limits: dict[str, str]  # the rate limit of the task at each consumer that has one
    running: list[HeldTask]
    slots: int | None  # of all consumers; None: unknown
    per_s: float | None  # how many messages of the queue they take in a second; None: unknown

    def knowing(self, name: str) -> list[str]:
        return [node for node in self.nodes if name in self.names.get(node, ())]


def consumers(app: App, queue: str, name: str, nodes: Sequence[str], timeout_s: float = ASK_S) -> Consumers:
    """Ask these workers. Raises BrokerDown."""
    from qctl.fleet import queue_rates

    if not nodes:
        return Consumers([], {}, {}, {}, [], None, None)
    answers = app.control.ask("active_queues", {}, list(nodes), timeout_s)
    taken = {
        node: [str(q.get("name")) for q in queues if isinstance(q, dict)]
        for node, queues in answers.replies.items()
        if isinstance(queues, list)
    }
    mine = sorted(node for node, queues in taken.items() if queue in queues)
    found = Consumers(mine, {n: q for n, q in taken.items() if n not in mine}, {}, {}, [], None, None)
    if not mine:
        return found
    for node, lines in app.control.ask("registered", {"builtins": True}, mine, timeout_s).replies.items():
        for line in lines if isinstance(lines, list) else ():
            one, _, more = str(line).partition(" [")
            found.names.setdefault(node, []).append(one)
            if one == name and "rate_limit=" in more:
                found.limits[node] = more.partition("rate_limit=")[2].rstrip("]").split(" ")[0]
    for node, tasks in app.control.ask("active", {}, mine, timeout_s).replies.items():
        for task in tasks if isinstance(tasks, list) else ():
            if (one_held := held_task(task, "running", node)) is not None:
                found.running.append(one_held)
    slots = [_slots(answers.members.get(node)) for node in mine]
    found.slots = None if None in slots else sum(s for s in slots if s is not None)
    rates = queue_rates.taken(answers)
    found.per_s = None if queue in rates.others else rates.per_s.get(queue)
    return found


def _slots(member: Member | None) -> int | None:
    slots = member.info.get("concurrency") if member is not None else None
    return slots if isinstance(slots, int) else None


def running_at(app: App, node: str, timeout_s: float = ASK_S) -> list[HeldTask]:
    """The tasks that a worker runs, the longest running one first."""
    tasks = app.control.ask("active", {}, [node], timeout_s).replies.get(node)
    held = [held_task(task, "running", node) for task in tasks] if isinstance(tasks, list) else []
    return sorted((one for one in held if one is not None), key=lambda one: one.started_at or 0.0)
