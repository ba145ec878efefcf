"""The actions of the dashboard's keys on rows: each is a command line of qctl.

In:  rows of a view, or a filter that selects them.  Out: the words of a command.  After this: run_command.py
runs them, so safety checks, reasons and the audit log are those of the command line.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from qcore.events.store.table import TaskSeen
from qctl.dashboard.state.schedules import ScheduleRow
from qctl.dashboard.state.snapshot import FailureRow, QueueRow, WorkerRow
from qctl.output.text import count

REVERSIBLE, COSTLY, IRREVERSIBLE = "reversible", "costly", "irreversible"


class RowAction(NamedTuple):
    """An action: the words after `qctl`, its description, its grade, the words that undo it (empty: it cannot
    be undone), whether it has a preview, and the name that must be typed."""

    words: tuple[str, ...]
    what: str
    grade: str
    undo: tuple[str, ...] = ()
    preview: bool = False  # the command has --dry-run
    name: str = ""
    own: str = ""  # the name of the user's command, whose words are those of a program
    background: bool = False  # its output is not shown
    reads_only: bool = False  # it changes nothing

    @property
    def line(self) -> str:
        if self.own:
            return shlex.join(self.words)
        return "qctl " + shlex.join(w for w in self.words if w != "--yes")


def retry(rows: Sequence[Any], every: str) -> RowAction | None:
    failed = [r for r in rows if isinstance(r, TaskSeen) and r.state == "FAILURE"]
    if every and rows and isinstance(rows[0], TaskSeen):
        return _retry((every,), f"retry all failed tasks that match {every}")
    if failed:
        what = failed[0].name or failed[0].uuid if len(failed) == 1 else count(len(failed), "failed task")
        return _retry((f"id:{','.join(t.uuid for t in failed)}",), f"retry {what}, with the same arguments")
    groups = [r for r in rows if isinstance(r, FailureRow) and r.retryable]
    if len(groups) == 1:
        (row,) = groups
        of = "" if row.retryable == row.count else f" of ~{row.count:,}, the stored ones"
        what = f"retry {count(row.retryable, 'failed task')}{of}: {row.name}, {row.exc_type}"
        return _retry(row.filter_words, what)
    if groups:
        words = " or ".join(f"({' '.join(g.filter_words)})" for g in groups)
        return _retry((words,), f"try {count(sum(g.retryable for g in groups), 'failed task')} again")
    return None


def _retry(words: tuple[str, ...], what: str) -> RowAction:
    return RowAction(("failed", "retry", *words, "--yes"), what, COSTLY, preview=True)


def revoke(rows: Sequence[Any], every: str) -> RowAction | None:
    if every and rows and isinstance(rows[0], TaskSeen):
        what = f"revoke all waiting tasks that match {every}"
        return RowAction(("task", "revoke", "--match", every, "--yes"), what, COSTLY, preview=True)
    tasks = [r for r in rows if isinstance(r, TaskSeen) and not r.is_ready]
    if not tasks:
        return None
    ids = tuple(t.uuid for t in tasks)
    what = tasks[0].name or ids[0] if len(tasks) == 1 else count(len(tasks), "task")
    words = ("task", "revoke", *ids, "--yes")
    return RowAction(words, f"revoke {what}", COSTLY, ("task", "unrevoke", *ids), preview=True)


def terminate(rows: Sequence[Any], every: str) -> RowAction | None:
    tasks = [r for r in rows if isinstance(r, TaskSeen) and r.state == "STARTED"]
    if not tasks or every:
        return None
    what = f"kill {tasks[0].name or tasks[0].uuid} while it runs on {tasks[0].worker}"
    if len(tasks) > 1:
        what = f"kill {count(len(tasks), 'running task')}"
    return RowAction(("control", "terminate", "KILL", *(t.uuid for t in tasks)), what, COSTLY)


def _queue_of(rows: Sequence[Any]) -> tuple[str, bool] | None:
    """The queue that a single row refers to, and whether it is paused."""
    if len(rows) != 1:
        return None
    (row,) = rows
    if isinstance(row, QueueRow):
        return row.name, row.paused
    if isinstance(row, TaskSeen | FailureRow) and row.queue:
        return row.queue, False
    return None


def _entry_of(rows: Sequence[Any]) -> ScheduleRow | None:
    """The schedule entry that a single row is about."""
    return rows[0] if len(rows) == 1 and isinstance(rows[0], ScheduleRow) else None


def pause(rows: Sequence[Any], every: str) -> RowAction | None:
    entry = _entry_of(rows)
    if entry is not None:
        from qctl.fleet.schedules import PAUSED

        on, off = ("schedule", "pause", entry.name), ("schedule", "resume", entry.name)
        if entry.status == PAUSED:
            return RowAction(off, f"resume {entry.name}: publish it from its next instant on", REVERSIBLE, on)
        return RowAction(on, f"pause {entry.name}: no instant is published", REVERSIBLE, off)
    found = _queue_of(rows)
    if found is None:
        return None
    queue, paused = found
    on, off = ("queue", "pause", queue), ("queue", "resume", queue)
    if paused:
        return RowAction(off, f"resume {queue}", REVERSIBLE, on)
    return RowAction(on, f"pause {queue}: workers stop consuming it", REVERSIBLE, off)


def resume(rows: Sequence[Any], every: str) -> RowAction | None:
    entry = _entry_of(rows)
    if entry is not None:
        return RowAction(("schedule", "resume", entry.name), f"resume {entry.name}", REVERSIBLE)
    found = _queue_of(rows)
    if found is None:
        return None
    return RowAction(("queue", "resume", found[0]), f"resume {found[0]}", REVERSIBLE)


def drain(rows: Sequence[Any], every: str) -> RowAction | None:
    workers = tuple(r.node for r in rows if isinstance(r, WorkerRow))
    if workers:
        what = f"{', '.join(workers)}: claim no more tasks"
        words = ("worker", "drain", *workers, "--yes")
        return RowAction(words, what, COSTLY, ("worker", "resume", *workers), preview=True)
    found = _queue_of(rows)
    if found is None:
        return None
    return RowAction(
        ("queue", "drain", found[0]), f"check whether {found[0]} is empty with nothing in flight", REVERSIBLE
    )


def purge(rows: Sequence[Any], every: str) -> RowAction | None:
    if len(rows) != 1 or not isinstance(rows[0], QueueRow):
        return None
    queue = rows[0].name
    words = ("queue", "purge", queue, "--confirm", queue)
    what = f"delete all waiting messages of {queue}; this cannot be undone"
    return RowAction(words, what, IRREVERSIBLE, preview=True, name=queue)


def grow(rows: Sequence[Any], every: str) -> RowAction | None:
    return _size(rows, "pool_grow", "pool_shrink", "add a slot")


def shrink(rows: Sequence[Any], every: str) -> RowAction | None:
    return _size(rows, "pool_shrink", "pool_grow", "remove a slot")


def _size(rows: Sequence[Any], verb: str, back: str, what: str) -> RowAction | None:
    nodes = ",".join(r.node for r in rows if isinstance(r, WorkerRow))
    if not nodes:
        return None
    tail = ("1", "-d", nodes)
    return RowAction(("control", verb, *tail), f"{what} on {nodes}", REVERSIBLE, ("control", back, *tail))


def events_on(rows: Sequence[Any], every: str) -> RowAction | None:
    nodes = ",".join(r.node for r in rows if isinstance(r, WorkerRow))
    here = ("-d", nodes) if nodes else ()
    what = f"task events of {nodes or 'every worker'}"
    on, off = ("control", "enable_events", *here), ("control", "disable_events", *here)
    if nodes and all(r.task_events for r in rows if isinstance(r, WorkerRow)):
        on, off = off, on
    return RowAction(on, what, REVERSIBLE, off)


def shut_down(rows: Sequence[Any], every: str) -> RowAction | None:
    nodes = ",".join(r.node for r in rows if isinstance(r, WorkerRow))
    if not nodes:
        return None
    words = ("control", "shutdown", "-d", nodes, "--no-wait", "--yes")
    return RowAction(words, f"stop {nodes}: running tasks finish first", COSTLY)


def run_now(rows: Sequence[Any], every: str) -> RowAction | None:
    entry = _entry_of(rows)
    if entry is None or entry.item is None:
        return None
    what = f"run {entry.name} now: send {entry.item['task']}, beside its schedule"
    return RowAction(("schedule", "run", entry.name), what, COSTLY)


def reset(rows: Sequence[Any], every: str) -> RowAction | None:
    entry = _entry_of(rows)
    if entry is None or entry.item is None or not entry.edited:
        return None
    fields = ", ".join(entry.item["edited"])
    what = f"reset {entry.name}: drop what people changed of it ({fields})"
    return RowAction(("schedule", "reset", entry.name), what, COSTLY)


def edit_schedule(row: ScheduleRow, text: str) -> RowAction | None:
    """Another schedule for an entry; it is undone as far as the one that it has can be written as text."""
    if row.item is None:
        return None
    from qcore.schedules.specs import text_of

    words, before = ("schedule", "edit", row.name, "--schedule", text), text_of(row.item["spec"])
    undo: tuple[str, ...] = ("schedule", "edit", row.name, "--schedule", before) if before else ()
    if row.item["source"] is not None and not row.edited:
        undo = ("schedule", "reset", row.name)
    return RowAction(words, f"change when {row.name} is due: {text}", REVERSIBLE, undo)


VERBS: dict[str, Callable[[Sequence[Any], str], RowAction | None]] = {
    "retry": retry,
    "revoke": revoke,
    "terminate": terminate,
    "pause": pause,
    "resume": resume,
    "drain": drain,
    "purge": purge,
    "grow": grow,
    "shrink": shrink,
    "events_on": events_on,
    "shut_down": shut_down,
    "run_now": run_now,
    "reset": reset,
}
