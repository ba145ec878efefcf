"""What stands below the facts of the Broker screen: charts of the server, and which queues it holds.

In:  a Scene, a fact.  Out: panels side by side in a Canvas, as many as are known and fit.
Before this: band.py.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import partial

from qctl.dashboard.state.rings import Series
from qctl.dashboard.state.series import spark_of
from qctl.dashboard.state.snapshot import QueueRow
from qctl.dashboard.views import panels
from qctl.dashboard.views.panels import Box, Scene
from qctl.dashboard.widgets.canvas import Canvas
from qctl.dashboard.widgets.fields import Field, Part, widths_of
from qctl.output.text import shown, width

#: the least size of a panel, and the most of them side by side
LEAST_CELLS, LEAST_LINES, MOST_BESIDE = 34, 6, 3
#: cells of a fact's value in the list above, less than the screen
BESIDE_VALUE = 19
#: what is charted: the name in Charts.broker, its title, the unit of its axis
SERVER = (
    ("answers", "answer, ms", ""),
    ("commands", "commands", "/s"),
    ("memory", "memory, MiB", ""),
    ("clients", "clients", ""),
)
HELD = (
    Field("QUEUE", 10, 0, grows=1, middle=True, most=28),
    Field("HELD", 7, 0, right=True),
    Field("SHARE", 5, 1, right=True),
    Field("TREND", 10, 2, grows=1),
)
#: a panel: its title, and what draws it and returns what else its heading says
Panel = tuple[str, Callable[[Canvas, Box], object]]


def fact(canvas: Canvas, inner: Box, scene: Scene, row: tuple[str, str]) -> tuple[str, str]:
    """The value of the selected fact, if the list has no room for all of it, and the panels. Returns the
    title and the summary of the band."""
    name, value = row
    lines = textwrap.wrap(value, max(inner.cells, 10)) if width(value) > inner.cells - BESIDE_VALUE else []
    for number, line in enumerate(lines[: inner.rows]):
        canvas.text(inner.x, inner.y + number, line, "", inner.cells)
    used = min(len(lines), inner.rows)
    found = _known(scene)
    beside = max(min(inner.cells // LEAST_CELLS, MOST_BESIDE), 1)
    fits = (inner.rows - used) // LEAST_LINES
    found = found[: fits * beside]
    if not found:
        return name, ""
    deep = -(-len(found) // beside)
    top = inner.y + used
    for turn in range(deep):
        y = top + (inner.rows - used) * turn // deep
        end = top + (inner.rows - used) * (turn + 1) // deep
        some = found[len(found) * turn // deep : len(found) * (turn + 1) // deep]
        for place, (heading, draw) in enumerate(some):
            x = inner.x + inner.cells * place // len(some)
            cells = inner.x + inner.cells * (place + 1) // len(some) - x - (place < len(some) - 1)
            said = shown(f"{heading} · {draw(canvas, Box(x, y + 1, cells, end - y - 1))}")
            canvas.text(x, y, said if width(said) <= cells else heading, scene.panes.style("faint"), cells)
    return name, scene.words


def _known(scene: Scene) -> list[Panel]:
    """The panels whose numbers are known, the most telling first."""
    charts = scene.charts
    arrived = next((s for s in ("published", "in") if charts.series[s].now is not None), "in")
    word = "received" if arrived == "in" else arrived
    found: list[Panel] = [
        (
            f"{word}, done",
            _area(scene, [(arrived, "in"), ("done", "done")], charts.series, "/s"),
        )
    ]
    for name, title, unit in SERVER:
        series = charts.broker.get(name)
        if series is not None and series.now is not None:
            found.append((title, _area(scene, [(name, "running")], {name: series}, unit)))
    held = [(_held(row), row) for row in scene.picture.queues]
    if any(count for count, _ in held):
        found.append(("messages held", partial(_holds, scene=scene, held=held)))
    else:
        found.append(("messages ready", _area(scene, [("ready", "in")], charts.series, "")))
    return found


def _area(
    scene: Scene, names: list[tuple[str, str]], series: dict[str, Series], unit: str
) -> Callable[[Canvas, Box], panels.Extent]:
    return lambda canvas, box: panels.area(canvas, box, scene, names, series, unit)


def _held(row: QueueRow) -> int:
    """The messages of a queue that are not settled, as far as they are known."""
    return row.ready + (row.delayed or 0) + (row.in_flight or 0)


def _holds(canvas: Canvas, box: Box, scene: Scene, held: list[tuple[int, QueueRow]]) -> str:
    """The queues with the most messages, with the history of those that are ready. Returns their number."""
    panes, whole = scene.panes, sum(count for count, _ in held) or 1
    room = widths_of(HELD, box.cells)[-1]
    lines = []
    for count, row in sorted(held, key=lambda one: (-one[0], one[1].name))[: box.rows - 1]:
        series = scene.charts.queues.get(row.name)
        trend = spark_of(series, panes.now, scene.seconds, room, panes.plain)
        lines.append(
            [Part(row.name), Part(f"{count:,}"), Part(f"{count / whole:.0%}"), Part(trend, panes.thin("in"))]
        )
    panels.table(canvas, box, scene, HELD, lines)
    return f"{sum(count for count, _ in held):,} in {sum(count > 0 for count, _ in held):,} queues"
