"""The overview: is something wrong, since when, where. Charts, and lists whose lines are links.

In:  a Scene and the size of the screen.  Out: a Plan (which panels stand where, with which rows), the links
in the order of the cursor, and the picture.
What does not fit is folded in this order: changes, task types, run time, workers (to one line), labels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from qctl.dashboard.state.snapshot import FailureRow, QueueRow, Snapshot, WorkerRow
from qctl.dashboard.views.alerts import figure, outlook
from qctl.dashboard.views.cells import CellFormatter, rate
from qctl.dashboard.views.overview_lists import (
    AROUND,
    DRAW,
    Link,
    Panel,
    TypeRow,
    ails,
    queue_order,
    type_rows,
    worker_order,
)
from qctl.dashboard.views.panels import Box, Scene
from qctl.dashboard.widgets.canvas import Canvas
from qctl.dashboard.widgets.fields import Field, Part
from qctl.output.text import age

#: the columns of the one list of a very small terminal
FIELDS = (
    Field("OLDEST QUEUES", 18, 0, grows=True, middle=True),
    Field("READY", 9, 0, right=True),
    Field("OLDEST", 9, 0, right=True),
    Field("OUT/S", 9, 1, right=True),
    Field("WORKERS", 9, 2, right=True),
)
#: from these widths on there are two, and three panels side by side
TWO, THREE = 100, 160


class Overview:
    """Plans and draws the overview; it keeps the order of the task types for some seconds."""

    def __init__(self) -> None:
        self._types: tuple[Any, list[TypeRow]] = (None, [])

    # --- what stands where

    def plan(
        self, picture: Snapshot, range_number: int, cells: int, rows: int, zoom: str = ""
    ) -> list[Panel]:
        """The panels for a screen of this size; zoom: the name of the only one."""
        lists = {
            "queues": [Link(f"queue {q.name}", q) for q in sorted(picture.queues, key=queue_order)],
            "failures": [Link(f"failure {f.name} {f.exc_type}", f) for f in picture.failures],
            "workers": [Link(f"worker {w.node}", w) for w in sorted(picture.workers, key=worker_order)],
            "types": [Link(f"type {t.name}", t) for t in self.types(picture, range_number)],
        }
        if zoom:
            return [Panel(zoom, Box(0, 0, cells, rows), tuple(lists.get(zoom, ())[: rows - AROUND]))]
        if cells >= TWO and rows >= 20:
            return self._wide(lists, cells, rows, picture)
        return self._narrow(lists, cells, rows)

    def _narrow(self, lists: dict[str, list[Link]], cells: int, rows: int) -> list[Panel]:
        strip = 1 if rows >= 16 else 0
        wanted = {
            name: min(max(len(lists[name]), 1), 4 if rows < 24 else 6) + AROUND
            for name in ("queues", "failures")
        }
        failures = min(wanted["failures"], 5 if rows < 24 else 8)
        chart = min(max(rows - strip - wanted["queues"] - failures, 7), 14)
        queues = max(rows - strip - chart - failures, 4)
        made, y = [], 0
        for name, height in (("throughput", chart), ("queues", queues), ("failures", failures)):
            made.append(_panel(name, Box(0, y, cells, height), lists))
            y += height
        if strip:
            made.append(Panel("strip", Box(0, y, cells, 1)))
        return made

    def _wide(self, lists: dict[str, list[Link]], cells: int, rows: int, picture: Snapshot) -> list[Panel]:
        columns = 3 if cells >= THREE else 2
        changes = 5 if rows >= 34 and columns == 2 else 0
        has_third = rows >= 26
        wanted = [
            max(len(lists["queues"]), len(lists["failures"]), 2) + AROUND,
            (max(min(len(lists["workers"]), 8), len(lists["types"]), 2) + AROUND) if has_third else 1,
        ]
        chart = 9 if rows < 34 else 11
        left = rows - chart - changes
        second = min(wanted[0], max(left - min(wanted[1], left // 2), left // 2))
        third = min(wanted[1], left - second) if has_third else 1
        chart += min(rows - changes - chart - second - third, 9)  # what the lists leave
        spare = rows - changes - chart - second - third
        second, third = (
            (second + spare // 2, third + spare - spare // 2) if has_third else (second + spare, 1)
        )
        charts: tuple[str, ...] = ("throughput", "run", "utilisation")[:columns]
        lines: list[tuple[tuple[str, ...], int]] = [(charts, chart), (("queues", "failures"), second)]
        if has_third:
            lines.append((("workers", "types", "changes")[:columns], third))
        else:
            lines.append((("strip",), 1))
        if changes:
            lines.append((("changes",), changes))
        made, y = [], 0
        for names, height in lines:
            x = 0
            for number, name in enumerate(names):
                end = cells * (number + 1) // len(names)
                made.append(_panel(name, Box(x, y, end - x, height), lists))
                x = end
            y += height
        return made

    def types(self, picture: Snapshot, range_number: int) -> list[TypeRow]:
        """The task types, those first that keep most slots busy."""
        charts = picture.charts
        if charts is None:
            return []
        is_early = picture.events_per_s is None  # a recording is read up to this moment
        key = (id(charts.types), int(picture.at) // 5, range_number, len(charts.types), is_early)
        if self._types[0] != key:
            self._types = (key, type_rows(charts, picture.at, range_number))
        return self._types[1]

    # --- the picture

    def paint(
        self,
        scene: Scene,
        plan: Sequence[Panel],
        size: tuple[int, int],
        key: str,
        marked: Sequence[str] = (),
        gone: Collection[str] = (),
    ) -> Canvas:
        """key: the link under the cursor, empty: it is not shown; gone: links to rows that were removed."""
        canvas = Canvas(*size, scene.look)
        for panel in plan:
            keys = [link.key for link in panel.links]
            chosen = keys.index(key) if key in keys else None
            draw = DRAW[panel.name]
            draw(canvas, panel, scene, chosen, [n for n, k in enumerate(keys) if k in marked])
            for number in (n for n, k in enumerate(keys) if k in gone):
                _strike(canvas, panel.box, number, scene.panes.plain)
        return canvas


def _panel(name: str, box: Box, lists: dict[str, list[Link]]) -> Panel:
    return Panel(name, box, tuple(lists.get(name, ())[: max(box.rows - AROUND, 0)]))


def _strike(canvas: Canvas, box: Box, number: int, plain: bool) -> None:
    """Strike a line of a list through; its mark says the same without a style."""
    y = box.y + 2 + number
    if y < canvas.rows:
        for x in range(box.x + 2, min(box.x + box.cells - 1, canvas.columns)):
            canvas.styles[y][x] = f"{canvas.styles[y][x]} strike".strip()
        canvas.put(box.x + 1, y, "x" if plain else "✗", "")


def link_at(plan: Sequence[Panel], x: int, y: int) -> Link | None:
    """The link at a cell of the picture."""
    for panel in plan:
        box = panel.box
        number = y - box.y - 2
        if box.x <= x < box.x + box.cells and 0 <= number < len(panel.links):
            return panel.links[number]
    return None


# --- one list, for a very small terminal


def rows(snapshot: Snapshot, lines: int) -> Sequence[Link]:
    """Queues, failures and workers with a problem, as many as there are lines."""
    found = [Link(f"queue {q.name}", q) for q in sorted(snapshot.queues, key=queue_order)]
    found = found[: max(lines // 3, 2)]
    found += [Link(f"failure {f.name} {f.exc_type}", f) for f in snapshot.failures[: max(lines // 3, 2)]]
    found += [Link(f"worker {w.node}", w) for w in sorted(snapshot.workers, key=worker_order) if ails(w)]
    return found or [Link("nothing", None, ("", "all is well"))]


def cells(panes: CellFormatter, link: Link) -> list[Part]:
    row = link.target
    if isinstance(row, QueueRow):
        mark = "~" if row.seen else ""
        word, style = outlook(row)
        name = f"{row.name}  {word}" if style else row.name
        oldest = "-" if row.oldest_s is None else age(row.oldest_s)
        return [
            Part(name, panes.style(style)),
            Part(figure(row.ready)),
            Part(oldest),
            Part(rate(row.out_per_s, mark)),
            Part(figure(row.consumers)),
        ]
    if isinstance(row, FailureRow):
        last = age(max(panes.now - row.last_at, 0.0))
        total = f"{'' if row.exact else '~'}{row.count:,}"
        return [
            Part(f"{row.name}  {row.exc_type}", panes.style("failed")),
            Part(total),
            Part(last),
            Part(""),
            Part(""),
        ]
    if isinstance(row, WorkerRow):
        state = panes.state("draining" if row.draining and row.state == "online" else row.state)
        return [
            Part(row.node),
            state,
            Part(age(row.age_s) if row.age_s else "now"),
            Part(row.clock),
            Part(""),
        ]
    return [Part(link.words[1], panes.style("faint")), *[Part("")] * 4]
