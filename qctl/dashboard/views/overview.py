"""The overview: what needs attention. Every line is a link to the row it is about.

In:  a Snapshot and the number of lines.  Out: lines, and cells for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from qctl.dashboard.state.snapshot import FailureRow, QueueRow, Snapshot, WorkerRow
from qctl.dashboard.views.cells import CellFormatter
from qctl.dashboard.widgets.virtual_table import Field, Part
from qctl.output.text import age

FIELDS = (
    Field("OLDEST QUEUES", 18, 0, grows=True, middle=True),
    Field("READY", 9, 0, right=True),
    Field("OLDEST", 9, 0, right=True),
    Field("OUT/S", 9, 1, right=True),
    Field("WORKERS", 9, 2, right=True),
)
FAILING = ("FAILING", "COUNT", "LAST", "FIRST", "QUEUE")
ATTENTION = ("WORKERS WITH PROBLEMS", "STATE", "RUN", "AGE", "LOST")


class Link(msgspec.Struct, frozen=True):
    """A line; `target`: the row it is about, None for a heading or a remark."""

    key: str
    target: Any = None
    words: tuple[str, ...] = ()


def rows(snapshot: Snapshot, lines: int) -> Sequence[Link]:
    """Queues by the age of their oldest message, failing tasks by number, workers with a problem; each
    section gets a third of the lines, or what the others leave."""
    queues = sorted(snapshot.queues, key=lambda q: (-(q.oldest_s or 0), -q.ready, q.name))
    failures = list(snapshot.failures)
    workers = [w for w in snapshot.workers if ails(w)]
    shares = _shares([len(queues) or 1, len(failures) or 1, len(workers) or 1], max(lines - 2, 3))
    well = f"all {len(snapshot.workers)} are healthy" if snapshot.workers else "no worker is online"
    parts: list[Link] = []
    sections: tuple[tuple[tuple[str, ...], list[Any], str, str], ...] = (
        ((), queues, "all queues are empty", "queue"),
        (FAILING, failures, "no failed task is stored", "failure"),
        (ATTENTION, workers, well, "worker"),
    )
    for number, (title, part, none, name) in enumerate(sections):
        if title:
            parts.append(Link(f"heading {name}", None, title))
        parts += [Link(f"{name} {_name(row)}", row) for row in part[: shares[number]]]
        if not part:
            parts.append(Link(f"no {name}", None, ("", none)))
    return parts


def ails(worker: WorkerRow) -> bool:
    """Whether the worker needs attention: not online, lost events, or a wrong clock."""
    return worker.state != "online" or worker.missed > 0 or bool(worker.clock)


def _name(row: Any) -> str:
    return (
        f"{row.name} {row.exc_type}" if isinstance(row, FailureRow) else getattr(row, "name", "") or row.node
    )


def _shares(sizes: list[int], room: int) -> list[int]:
    """The number of lines for each section, `room` in all."""
    shares = [0] * len(sizes)
    while room > 0 and shares != sizes:
        for number, size in enumerate(sizes):
            if shares[number] < size and room > 0:
                shares[number] += 1
                room -= 1
    return shares


def cells(panes: CellFormatter, link: Link) -> list[Part]:
    row = link.target
    if isinstance(row, QueueRow):
        name, ready, _, _, oldest, _, out, _, workers, paused = panes.queue(row)
        name = Part(f"{row.name}  {paused.text}" if row.paused else row.name, paused.style)
        return [name, ready, oldest, out, workers]
    if isinstance(row, FailureRow):
        total, task, exception, last, first, queue, _ = panes.failure(row)
        return [Part(f"{task.text}  {exception.text}"), total, last, first, queue]
    if isinstance(row, WorkerRow):
        name, state, running, *_ = panes.worker(row)
        lost = Part(f"{row.missed:,}" if row.missed else "", panes.style("failed"))
        if row.clock:
            name = Part(f"{row.node}  clock {row.clock}", panes.style("failed"))
        return [name, state, running, Part(age(row.age_s) if row.age_s else "now"), lost]
    if link.words and link.words[0]:
        return [Part(word, "bold") for word in link.words]
    return [Part(link.words[1], panes.style("faint")), *[Part("")] * 4]
