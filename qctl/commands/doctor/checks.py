"""Checks over the collected facts; one function per kind of problem.

In:  Facts.  Out: Symptoms, each with the command that fixes it. Pure functions.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from qcore.brokers.contract.diagnosis import ERROR, WARNING, Symptom
from qcore.settings import effects
from qcore.wire.event import finite_number, moment
from qctl.commands.doctor import schedule_checks
from qctl.fleet.facts import Facts
from qctl.output.text import age, count, stamp

#: larger clock differences are errors: event times and expiries are compared across hosts
SKEW_S = 2.0
CELERY_VISIBILITY_S = 3600.0

Check = Callable[[Facts], Iterator[Symptom]]


def no_worker(facts: Facts) -> Iterator[Symptom]:
    waiting = sum(d.ready for d in facts.depths.values())
    if not facts.nodes and not facts.silent:
        level = ERROR if waiting else WARNING
        what = f"no worker is online; {count(waiting, 'message')} wait"
        yield Symptom("no-worker", level, what + _age(facts, facts.depths), "qctl -A APP worker")


def _age(facts: Facts, queues: Iterable[str]) -> str:
    """The age of the oldest message in these queues as text; empty if the broker does not report it."""
    times = [at for queue in queues if (at := facts.depths[queue].oldest_at) is not None]
    return f", the oldest for {age(facts.at - min(times))}" if times else ""


def silent_workers(facts: Facts) -> Iterator[Symptom]:
    for silent in facts.silent:
        member = facts.members.get(silent.node)
        info = member.info if member else {}
        where = f" (pid {info.get('pid')} on {info.get('host')})" if info else ""
        what = (
            f"{silent.node} has a live lease and does not answer{where}; "
            "its deliveries wait until the lease ends"
        )
        fix = f"kill -9 {info.get('pid')}"
        if not info:
            what = f"{silent.node} does not answer; Celery's workers have no lease, so its deliveries wait"
            fix = f"restart the worker {shlex.quote(silent.node)}"
        yield Symptom("silent-worker", ERROR, what, fix, silent.node)


def lost_workers(facts: Facts) -> Iterator[Symptom]:
    """Workers of qcore whose lease ended without a shutdown: killed, or hung for so long."""
    for node, member in sorted(facts.members.items()):
        if member.alive or node in facts.nodes:
            continue
        where = f" (pid {member.info.get('pid')} on {member.info.get('host')})" if member.info else ""
        what = (
            f"{node} has sent no heartbeat for {age(max(facts.at - member.seen_at, 0.0))} and did not shut "
            f"down in order{where}; its deliveries were returned"
        )
        yield Symptom("lost-worker", WARNING, what, "qctl status --all", node)


def twins(facts: Facts) -> Iterator[Symptom]:
    for node, places in facts.twins.items():
        where = f" ({'; '.join(places)})" if places else ""
        what = (
            f"more than one worker is called {node}{where}: requests to that name reach both, and each "
            "number of it is that of either"
        )
        yield Symptom("duplicate-name", ERROR, what, "start each with a name of its own: -n NAME@%h", node)


def unconsumed_queues(facts: Facts) -> Iterator[Symptom]:
    for queue, depth in facts.depths.items():
        if depth.ready and facts.nodes and not facts.consumers(queue):
            known = f"no worker {'that answers ' if facts.silent else ''}consumes it"
            what = f"{count(depth.ready, 'message')} wait in '{queue}', and {known}"
            what += _age(facts, [queue])
            fix = f"qctl control add_consumer {shlex.quote(queue)}"
            yield Symptom("unconsumed-queue", ERROR, what, fix, queue)


def unregistered_tasks(facts: Facts) -> Iterator[Symptom]:
    for queue, names in facts.waiting.items():
        takers = facts.consumers(queue)
        known = {name for node in takers for name in facts.registered(node)}
        for name, number in names.items() if takers and known else ():
            if name not in known:
                what = (
                    f"{count(number, 'message')} of '{name}' in '{queue}', and no worker "
                    "that consumes it has registered that task"
                )
                fix = f"qctl queue purge {shlex.quote(queue)} --match {shlex.quote('name:' + name)}"
                yield Symptom("unregistered-task", ERROR, what, fix, name)


def events_off(facts: Facts) -> Iterator[Symptom]:
    off = sorted(
        node
        for node, stats in facts.replies["stats"].items()
        if isinstance(stats, dict) and stats.get("task_events") is False
    )
    if off:
        what = f"{count(len(off), 'worker')} send no task events, so monitors do not see their tasks"
        yield Symptom("events-off", WARNING, what, f"qctl control enable_events -d {','.join(off)}", off[0])


def clock_skew(facts: Facts) -> Iterator[Symptom]:
    for node, member in facts.members.items():
        sent_at = moment(member.info.get("at"))
        if member.alive and sent_at is not None and abs(sent_at - member.seen_at) > SKEW_S:
            ahead = sent_at - member.seen_at
            what = (
                f"the clock of {node}'s host ({member.info.get('host')}) is {abs(ahead):.0f} s "
                f"{'ahead of' if ahead > 0 else 'behind'} the broker's; expiry and countdown go wrong there"
            )
            yield Symptom("clock-skew", ERROR, what, "timedatectl set-ntp true   # on that host", node)


def visibility_timeout(facts: Facts) -> Iterator[Symptom]:
    for node, conf in facts.replies["conf"].items():
        limit = _visibility(conf)
        stats = facts.replies["stats"].get(node)
        broker = stats.get("broker") if isinstance(stats, dict) else None
        if node in facts.members or not isinstance(broker, dict) or broker.get("transport") != "redis":
            continue  # qcore's workers have leases, which a live worker renews
        active = facts.replies["active"].get(node)
        for task in active if isinstance(active, list) else ():
            started = moment(task.get("time_start")) if isinstance(task, dict) else None
            if started is not None and facts.at - started > limit:
                what = (
                    f"{task.get('name')} has run for {facts.at - started:.0f} s on {node}, longer than the "
                    f"visibility timeout of that Celery worker ({limit:.0f} s): another worker runs it too"
                )
                fix = "raise visibility_timeout in broker_transport_options above the longest task"
                yield Symptom("visibility-timeout", ERROR, what, fix, node)


def _visibility(conf: Any) -> float:
    options = conf.get("broker_transport_options") if isinstance(conf, dict) else None
    value = finite_number(options.get("visibility_timeout")) if isinstance(options, dict) else None
    return CELERY_VISIBILITY_S if value is None else value


def paused_queues(facts: Facts) -> Iterator[Symptom]:
    for pause in facts.paused:
        queue = pause.queue
        ready = facts.depths[queue].ready if queue in facts.depths else 0
        if ready:
            by, why = (f" by {pause.by}" if pause.by else ""), (f" ({pause.reason})" if pause.reason else "")
            until = f" until {stamp(pause.until, False)}" if pause.until is not None else ""
            what = f"'{queue}' is paused{by}{until}{why} while {count(ready, 'message')} wait"
            what += _age(facts, [queue])
            yield Symptom("paused-queue", WARNING, what, f"qctl queue resume {shlex.quote(queue)}", queue)


def ignored_pauses(facts: Facts) -> Iterator[Symptom]:
    for pause in facts.paused:
        theirs = [node for node in facts.consumers(pause.queue) if node not in facts.members]
        if theirs:
            what = f"'{pause.queue}' is paused, and Celery workers consume it: {', '.join(sorted(theirs))}"
            fix = f"qctl control cancel_consumer {shlex.quote(pause.queue)} -d {','.join(sorted(theirs))}"
            yield Symptom("pause-ignored", WARNING, what, fix, pause.queue)


def set_aside(facts: Facts) -> Iterator[Symptom]:
    for reason, number in facts.quarantined.items():
        if reason == "crashed_too_often":
            what = f"{count(number, 'task')} crashed their process repeatedly and were dead-lettered"
            yield Symptom("dead-letters", ERROR, what, "qctl dead ls", reason)
        else:
            what = f"{count(number, 'message')} could not be run and were quarantined: {reason}"
            yield Symptom("quarantine", WARNING, what, "qctl quarantine ls", reason)


def results_not_kept(facts: Facts) -> Iterator[Symptom]:
    if not facts.keeps_results:
        what = "no result store is configured: a caller that waits for a result never gets one"
        yield Symptom("no-results", WARNING, what, "set result_backend, for instance to redis://HOST/1")


def unsigned_control(facts: Facts) -> Iterator[Symptom]:
    """Workers of qcore that execute unsigned requests. A broker that only this host reaches is no finding."""
    confs = {n: c for n, c in facts.replies["conf"].items() if n in facts.members and isinstance(c, dict)}
    heard = {node: conf for node, conf in confs.items() if set(conf) != {"error"}}
    keyed = [node for node, conf in heard.items() if conf.get("control_keys")]
    for node in sorted(keyed):
        if heard[node].get("control_unsigned") == "allow":
            what = f"{node} has control keys and still executes unsigned requests"
            yield Symptom("unsigned-control", ERROR, what, "set control_unsigned to read", node)
    refusing = any(conf.get("control_unsigned") in ("read", "refuse") for conf in heard.values())
    if facts.networked and heard and not keyed and not refusing:
        what = "control requests are not signed: every client of the broker can stop workers and revoke tasks"
        yield Symptom("nobody-signs", WARNING, what, "set control_keys, see docs/architecture.md")


def not_trusted(facts: Facts) -> Iterator[Symptom]:
    """Workers that refuse this client's requests for lack of a valid signature."""
    for node, stats in sorted(facts.replies["stats"].items()):
        words = stats.get("error") if isinstance(stats, dict) and set(stats) == {"error"} else None
        if isinstance(words, str) and words.startswith("refused ("):
            what = f"{node} does not answer this qctl: {words}"
            yield Symptom("not-trusted", WARNING, what, "export QCTL_CONTROL_KEY=ID:SECRET", node)


def settings_without_effect(facts: Facts) -> Iterator[Symptom]:
    """Settings of the app, and of the workers of qcore that answered, which have no effect."""
    found = set(facts.without_effect)
    for node, conf in facts.replies["conf"].items():
        if node in facts.members and isinstance(conf, dict):
            found.update(effects.without_effect(conf))
    for name in sorted(found):
        fix = f"remove {name} from the settings, or see docs/settings.md"
        yield Symptom("setting-without-effect", WARNING, effects.sentence(name), fix, name)


def at_the_broker(facts: Facts) -> Iterator[Symptom]:
    yield from facts.symptoms


CHECKS: tuple[Check, ...] = (
    no_worker,
    silent_workers,
    lost_workers,
    twins,
    unconsumed_queues,
    unregistered_tasks,
    paused_queues,
    ignored_pauses,
    set_aside,
    visibility_timeout,
    clock_skew,
    events_off,
    results_not_kept,
    unsigned_control,
    not_trusted,
    *schedule_checks.CHECKS,
    settings_without_effect,
    at_the_broker,
)


def examine(facts: Facts) -> list[Symptom]:
    """All symptoms, errors first."""
    found = [symptom for check in CHECKS for symptom in check(facts)]
    return sorted(found, key=lambda s: s.level != ERROR)
