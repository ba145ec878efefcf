"""What the dashboard's keys do to what is under the cursor: each is a command line of qctl, run as one.

In:  a view's name and a row.  Out: the words of a command.  After this: doing.py runs them.
So guards, reasons and the audit log are those of the command line, and the screen teaches it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from qcore.events.table import TaskSeen
from qctl.dashboard.snapshot import FailureRow, QueueRow, WorkerRow
from qctl.output.text import count

REVERSIBLE, COSTLY = "reversible", "costly"


class Act(NamedTuple):
    """One thing to do: the words behind `qctl`, what it is in a sentence, how careful to be, and how to
    take it back (none: it cannot be)."""

    words: tuple[str, ...]
    what: str
    grade: str
    undo: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        import shlex

        return "qctl " + shlex.join(w for w in self.words if w != "--yes")


def retry(row: Any) -> Act | None:
    if isinstance(row, TaskSeen) and row.state == "FAILURE":
        what = f"try {row.name or row.uuid} again, with the same arguments"
        return Act(("failed", "retry", f"id:{row.uuid}", "--yes"), what, COSTLY)
    if isinstance(row, FailureRow):
        what = f"try {count(row.count, 'failed task')} again: {row.name}, {row.exc_type}"
        return Act(("failed", "retry", *row.filter_words, "--yes"), what, COSTLY)
    return None


def revoke(row: Any) -> Act | None:
    if isinstance(row, TaskSeen) and not row.is_ready:
        what = f"revoke {row.name or row.uuid}: it will not start"
        return Act(("control", "revoke", row.uuid), what, COSTLY)
    return None


def terminate(row: Any) -> Act | None:
    if isinstance(row, TaskSeen) and row.state == "STARTED":
        what = f"kill {row.name or row.uuid} while it runs on {row.worker}"
        return Act(("control", "terminate", "KILL", row.uuid), what, COSTLY)
    return None


def pause(row: Any) -> Act | None:
    if isinstance(row, QueueRow):
        queue, paused = row.name, row.paused
    elif isinstance(row, TaskSeen | FailureRow) and row.queue:
        queue, paused = row.queue, False
    else:
        return None
    on, off = ("queue", "pause", queue), ("queue", "resume", queue)
    if paused:
        return Act(off, f"let workers take from {queue} again", REVERSIBLE, on)
    return Act(on, f"workers take no more from {queue}", REVERSIBLE, off)


def resume(row: Any) -> Act | None:
    queue = row.name if isinstance(row, QueueRow) else getattr(row, "queue", "")
    if not queue or isinstance(row, WorkerRow):
        return None
    return Act(("queue", "resume", queue), f"let workers take from {queue} again", REVERSIBLE)


def grow(row: Any) -> Act | None:
    if isinstance(row, WorkerRow):
        words = ("control", "pool_grow", "1", "-d", row.node)
        return Act(words, f"one more slot on {row.node}", REVERSIBLE, ("control", "pool_shrink", *words[2:]))
    return None


def shrink(row: Any) -> Act | None:
    if isinstance(row, WorkerRow):
        words = ("control", "pool_shrink", "1", "-d", row.node)
        return Act(words, f"one slot less on {row.node}", REVERSIBLE, ("control", "pool_grow", *words[2:]))
    return None


def events_on(row: Any) -> Act | None:
    off = ("control", "disable_events")
    if isinstance(row, WorkerRow):
        here = ("-d", row.node)
        return Act(("control", "enable_events", *here), f"events of {row.node}", REVERSIBLE, (*off, *here))
    return Act(("control", "enable_events"), "task events of every worker", REVERSIBLE, off)


def shut_down(row: Any) -> Act | None:
    if isinstance(row, WorkerRow):
        words = ("control", "shutdown", "-d", row.node, "--no-wait", "--yes")
        return Act(words, f"stop {row.node}: running tasks finish first", COSTLY)
    return None


VERBS: dict[str, Callable[[Any], Act | None]] = {
    "retry": retry,
    "revoke": revoke,
    "terminate": terminate,
    "pause": pause,
    "resume": resume,
    "grow": grow,
    "shrink": shrink,
    "events_on": events_on,
    "shut_down": shut_down,
}
