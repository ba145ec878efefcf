"""The dashboard's views, as data: rows, columns, and the text for an empty table.

In:  a Snapshot.  Out: the rows of each view; fields and cells come from cells.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from qctl.dashboard.state.snapshot import Snapshot
from qctl.dashboard.views import columns, episodes, overview
from qctl.dashboard.views.cells import CellFormatter
from qctl.dashboard.views.overview_lists import queue_order, type_row, type_rows, worker_order
from qctl.dashboard.widgets.fields import Field, Part

#: rows of a snapshot, for a number of lines
Rows = Callable[[Snapshot, int], Sequence[Any]]


class View(NamedTuple):
    """One view: a table over the whole width."""

    name: str
    key: str  # a number key, or a letter
    fields: tuple[Field, ...]
    rows: Rows
    id_of: Callable[[Any], str]
    cells: Callable[[CellFormatter], Callable[[Any], list[Part]]]
    empty: str
    short: str = ""  # its name in the footer, if that is shorter


def _schedule_cells(panes: CellFormatter) -> Callable[[Any], list[Part]]:
    from qctl.dashboard.views.schedules import cells

    return partial(cells, panes)


VIEWS: tuple[View, ...] = (
    View(
        "overview",
        "1",
        overview.FIELDS,
        overview.rows,
        lambda link: str(link.key),
        lambda panes: partial(overview.cells, panes),
        "",
    ),
    View(
        "workers",
        "2",
        columns.WORKER_FIELDS,
        lambda s, _: sorted(s.workers, key=worker_order),
        lambda w: str(w.node),
        lambda p: p.worker,
        columns.NO_WORKERS,
    ),
    View(
        "tasks",
        "3",
        columns.TASK_FIELDS,
        lambda s, _: s.tasks,
        lambda t: str(t.uuid),
        lambda p: p.task,
        columns.NO_TASKS,
    ),
    View(
        "queues",
        "4",
        columns.QUEUE_FIELDS,
        lambda s, _: sorted(s.queues, key=queue_order),
        lambda q: str(q.name),
        lambda p: p.queue,
        columns.NO_QUEUES,
    ),
    View(
        "failures",
        "5",
        columns.FAILURE_FIELDS,
        lambda s, _: s.failures,
        lambda f: f"{f.name} {f.exc_type}",
        lambda p: p.failure,
        columns.NO_FAILURES,
    ),
    View(
        "schedules",
        "6",
        columns.SCHEDULE_FIELDS,
        lambda s, _: s.schedules.rows,
        lambda e: str(e.name),
        _schedule_cells,
        columns.NOT_READ,
        "sched",
    ),
    View(
        "events",
        "7",
        columns.EVENT_FIELDS,
        lambda s, _: s.log,
        lambda e: str(e.number),
        lambda p: p.event,
        columns.NO_EVENTS,
    ),
    View(
        "broker",
        "8",
        columns.FACT_FIELDS,
        lambda s, _: s.broker_facts,
        lambda f: str(f[0]),
        lambda p: p.fact,
        "the broker has not answered yet",
    ),
    View(
        "types",
        "9",
        columns.TYPE_FIELDS,
        lambda s, _: [] if s.charts is None else type_rows(s.charts, s.at, 0),
        lambda t: str(t.name),
        lambda p: partial(type_row, p),
        columns.NO_TYPES,
    ),
    View(
        "alerts",
        "A",
        episodes.FIELDS,
        lambda s, _: s.episodes,
        lambda e: str(e.name),
        lambda p: partial(episodes.cells, p),
        "nothing has needed attention in the last hour",
    ),
)


def view_named(word: str) -> View | None:
    """The view with this name, or the only one whose name starts with it."""
    found = [v for v in VIEWS if v.name.startswith(word.lower())]
    return found[0] if word and found and (len(found) == 1 or found[0].name == word) else None
