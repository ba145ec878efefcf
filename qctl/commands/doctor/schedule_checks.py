"""Checks of the schedule: entries that nobody publishes, nobody runs, or that are never due.

In:  Facts.  Out: Symptoms, each with the command that fixes it. Pure functions.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from difflib import get_close_matches

from qcore.brokers.contract.diagnosis import ERROR, WARNING, Symptom
from qcore.wire.event import finite_number
from qctl.fleet import schedules
from qctl.fleet.facts import EntryFact, Facts
from qctl.output.text import count

#: larger clock differences are errors, as for workers
SKEW_S = 2.0
#: entries of each kind that are named; the others are counted
MOST = 10

#: the finding about one entry: its level, what is wrong, and the words after `qctl` that fix it
Finding = tuple[str, str, tuple[str, ...]]


def no_scheduler(facts: Facts) -> Iterator[Symptom]:
    waiting = [entry for entry in facts.entries if entry.status in (schedules.ON, schedules.CODE)]
    if waiting and not any(member.alive for member in facts.schedulers):
        entries = count(len(waiting), "schedule entry", "schedule entries")
        what = f"no scheduler is running, so nothing is published of {entries}"
        yield Symptom("no-scheduler", ERROR, what, "qctl -A APP beat")


def unregistered_entries(facts: Facts) -> Iterator[Symptom]:
    """Entries whose task no worker has; nothing is known while a worker does not tell its tasks."""
    known = {name for node in facts.nodes for name in facts.registered(node)}
    if not all(facts.registered(node) for node in facts.nodes):
        return

    def look(entry: EntryFact) -> Finding | None:
        if not known or entry.task in known:
            return None
        near = get_close_matches(entry.task, sorted(known), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        fix = (
            ("schedule", "edit", entry.name, "--task", near[0]) if near else ("schedule", "pause", entry.name)
        )
        return ERROR, f"sends '{entry.task}', which no worker has registered{hint}", fix

    yield from _each(facts, "schedule-task", look)


def unconsumed_entries(facts: Facts) -> Iterator[Symptom]:
    def look(entry: EntryFact) -> Finding | None:
        if entry.queue is None or not facts.nodes or facts.consumers(entry.queue):
            return None
        fix = ("control", "add_consumer", entry.queue)
        return ERROR, f"sends to '{entry.queue}', and no worker consumes that queue", fix

    yield from _each(facts, "schedule-queue", look)


def never_due(facts: Facts) -> Iterator[Symptom]:
    def look(entry: EntryFact) -> Finding | None:
        if entry.status == schedules.BROKEN:
            fix = ("schedule", "edit", entry.name, "--schedule", "EXPRESSION")
            return ERROR, f"is not published: {entry.problem}", fix
        if entry.status == schedules.ENDED:
            end = "pause" if entry.source is not None else "rm"
            return (
                WARNING,
                "is never due again: its schedule has no further instant",
                ("schedule", end, entry.name),
            )
        return None

    yield from _each(facts, "schedule-never-due", look)


def missed_entries(facts: Facts) -> Iterator[Symptom]:
    def look(entry: EntryFact) -> Finding | None:
        if not entry.just_missed:
            return None
        missed = count(entry.just_missed, "instant")
        return (
            WARNING,
            f"missed its last {missed}: no scheduler published in time",
            ("schedule", "run", entry.name),
        )

    yield from _each(facts, "schedule-missed", look)


def scheduler_clocks(facts: Facts) -> Iterator[Symptom]:
    for member in facts.schedulers:
        ahead = finite_number(member.info.get("clock"))
        if member.alive and ahead is not None and abs(ahead) > SKEW_S:
            what = (
                f"the clock of {member.node}'s host ({member.info.get('host')}) is {abs(ahead):.0f} s "
                f"{'ahead of' if ahead > 0 else 'behind'} that of the schedule's store; "
                "expiry goes wrong in the tasks that it sends"
            )
            yield Symptom(
                "scheduler-clock", ERROR, what, "timedatectl set-ntp true   # on that host", member.node
            )


def _each(facts: Facts, name: str, look: Callable[[EntryFact], Finding | None]) -> Iterator[Symptom]:
    """A symptom for each of the first MOST entries with a finding, and one for the others; paused entries are
    left out."""
    more, last = 0, ERROR
    found = ((entry, look(entry)) for entry in facts.entries if entry.status != schedules.PAUSED)
    for number, (entry, finding) in enumerate((e, f) for e, f in found if f is not None):
        level, what, words = finding
        if number < MOST:
            fix = "qctl " + shlex.join(words)
            yield Symptom(name, level, f"the schedule entry '{entry.name}' {what}", fix, entry.name)
        else:
            more, last = more + 1, level
    if more:
        what = f"{count(more, 'more schedule entry', 'more schedule entries')} with the finding {name}"
        yield Symptom(name, last, what, "qctl schedule ls")


CHECKS = (
    no_scheduler,
    unregistered_entries,
    unconsumed_entries,
    never_due,
    missed_entries,
    scheduler_clocks,
)
