"""The framed charts and lists of a screen, drawn into a canvas.

In:  a Scene: a snapshot with its history, the range and the crosshair of the screen.  Out: cells of a Canvas.
Before this: overview.py and band.py decide what stands where.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from qctl.dashboard.state.latency import EDGES_S, HEAT, ROWS
from qctl.dashboard.state.rings import RANGES, Range, Series, step_for
from qctl.dashboard.state.series import Charts, quantiles
from qctl.dashboard.state.snapshot import Snapshot
from qctl.dashboard.views.cells import CellFormatter
from qctl.dashboard.widgets.canvas import ASCII, BRAILLE, Canvas, Layer, axis_labels, nice_top
from qctl.dashboard.widgets.canvas import number as short
from qctl.dashboard.widgets.fields import GAP, Field, Part, widths_of
from qctl.output.text import age, cut, cut_middle, pad, shown, width

#: cells of the labels at the left of a chart, with their line: of those that keep them, and at least
LABELS, LEAST_LABELS = 6, 2
#: the least top of a chart of rates, per second
LEAST_RATE = 0.1
SHARES = tuple(f"heat{number}" for number in range(1, 6))


class Box(NamedTuple):
    """A part of the screen."""

    x: int
    y: int
    cells: int
    rows: int


class Scene(NamedTuple):
    """What is drawn: one moment, one range of time, for all charts of the screen."""

    picture: Snapshot
    charts: Charts
    panes: CellFormatter
    range_number: int = 0  # of RANGES
    cross: float | None = None  # the moment under the crosshair, epoch seconds

    @property
    def look(self) -> str:
        return ASCII if self.panes.plain else BRAILLE

    @property
    def words(self) -> str:
        return shown_range(self.range_number, self.charts, self.picture.at).words

    @property
    def seconds(self) -> int:
        return shown_range(self.range_number, self.charts, self.picture.at).seconds


class Extent(NamedTuple):
    """The newest value of a chart's first line, and between which it was; None: unknown."""

    now: float | None
    low: float | None
    high: float | None
    unit: str = ""

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return "-"
        now = "-" if self.now is None else short(self.now)
        return f"{now}{self.unit} now, {short(self.low)}-{short(self.high)}"


#: while less than the shortest range is known, charts show the shortest of these that shows all of it
FIRST = (Range("3 min", 180), Range("5 min", 300), Range("10 min", 600))


def shown_range(number: int, charts: Charts | None, at: float) -> Range:
    """The range that the charts show."""
    known_s = at - charts.began if charts is not None and charts.began is not None else 0.0
    return next((r for r in FIRST if number == 0 and known_s <= r.seconds), RANGES[number])


class TimeScale(NamedTuple):
    """Columns of a chart that stand on absolute time: so many of `step` seconds, `per_cell` in a cell."""

    begin: float
    step: int
    columns: int
    per_cell: int

    @property
    def end(self) -> float:
        return self.begin + self.step * self.columns

    @property
    def until(self) -> float:
        """A moment in the last column."""
        return self.end - 0.5

    def cell_of(self, moment: float) -> int:
        return int((moment - self.begin) // self.step) // self.per_cell

    def values(self, series: Series) -> list[float | None]:
        return series.columns(self.until, self.step, self.columns)


def time_scale(scene: Scene, cells: int, per_cell: int, least: int = 1) -> TimeScale:
    """The columns that show the scene's range in so many cells; steps are multiples of `least` seconds."""
    count = max(cells, 1) * per_cell
    step = step_for(scene.seconds, count)
    step = -(-step // least) * least
    first = int(scene.picture.at // step) - count + 1
    if first % per_cell:  # so that the two columns of a cell stay together
        first += 1
    return TimeScale(float(first * step), step, count, per_cell)


def framed(
    canvas: Canvas,
    box: Box,
    scene: Scene,
    title: str,
    summary: str | Sequence[tuple[str, str]] = "",
    lit: bool = False,
) -> Box:
    """Draw a frame; return the room inside."""
    style = scene.panes.style
    edge = style("in") if lit else style("frame")
    canvas.frame(box.x, box.y, box.cells, box.rows, "", "", edge, "")
    canvas.title(
        box.x, box.y, box.cells, title, summary, f"bold {edge if lit else ''}".strip(), style("faint")
    )
    return Box(box.x + 2, box.y + 1, box.cells - 4, box.rows - 2)


def opened(scene: Scene, cells: int, rows: int, closes: bool = False) -> Canvas:
    """A part of the frame around a list, below a line that divides it; closes: it is the last one."""
    canvas = Canvas(cells, rows, scene.look)
    frame, plain = scene.panes.style("frame"), scene.panes.plain
    canvas.frame(0, 0, cells, rows if closes else rows + 1, "", "", frame, "")
    canvas.put(0, 0, "+" if plain else "├", frame)
    canvas.put(cells - 1, 0, "+" if plain else "┤", frame)
    return canvas


def fitted(fields: Sequence[Field], rows: Sequence[Sequence[Part]]) -> list[Field]:
    """The fields, those of numbers as wide as the numbers of these rows and the heading need."""
    found = []
    for place, field in enumerate(fields):
        needed = max((len(cells[place].text) for cells in rows), default=0)
        found.append(field._replace(width=max(len(field.name), needed)) if field.right else field)
    return found


def table(
    canvas: Canvas,
    box: Box,
    scene: Scene,
    fields: Sequence[Field],
    rows: Sequence[Sequence[Part]],
    selected: int | None = None,
    marked: Sequence[int] = (),
) -> None:
    """A heading and one line per row; columns that do not fit are left out by priority."""
    widths = widths_of(fields, box.cells)
    for number, cells in enumerate([[Part(f.name, scene.panes.style("faint")) for f in fields], *rows]):
        y, x = box.y + number, box.x
        if number >= box.rows or y >= canvas.rows:
            return
        for field, room, part in zip(fields, widths, cells, strict=True):
            if not room:
                continue
            text = shown(part.text)
            text = cut_middle(text, room) if field.middle else cut(text, room)
            canvas.text(x, y, pad(text, room, field.right), part.style, room)
            x += room + GAP
        if selected is not None and number == selected + 1:
            highlight = scene.panes.highlight
            for column in range(box.x - 1, box.x + box.cells + 1):
                look = canvas.styles[y][column]
                canvas.styles[y][column] = f"{look} {highlight}".strip() if highlight else "bold reverse"
            canvas.put(
                box.x - 1,
                y,
                ">" if scene.panes.plain else "▌",
                f"{scene.panes.style('in')} {highlight}".strip(),
            )
        elif number - 1 in marked:
            canvas.put(box.x - 1, y, "*" if scene.panes.plain else "▪", "bold")


def facts(canvas: Canvas, box: Box, scene: Scene, rows: Sequence[tuple[str, str, str]]) -> None:
    """Names and values, in two columns if one does not suffice and there is room."""
    columns = 2 if len(rows) > box.rows and box.cells >= 70 else 1
    wide = box.cells // columns
    names = max((len(name) for name, _, _ in rows), default=0) + 2
    for number, (name, value, look) in enumerate(rows[: box.rows * columns]):
        x, y = box.x + number // box.rows * wide, box.y + number % box.rows
        canvas.text(x, y, name, scene.panes.style("faint"), wide)
        canvas.text(x + names, y, value, look, wide - names - 1)


def flow(canvas: Canvas, box: Box, scene: Scene, rows: Sequence[tuple[str, str, str]]) -> Box:
    """Names, values and styles one after the other, in as many lines as they need; return the room below."""
    x, y, end, faint = box.x, box.y, box.x + box.cells, scene.panes.style("faint")
    for name, value, look in rows:
        head = f"{name} " if name else ""
        if x > box.x and x + 3 + width(shown(head + value)) > end:
            x, y = box.x, y + 1
        if y >= box.y + box.rows:
            break
        x = canvas.text(x, y, f"{' · ' if x > box.x else ''}{head}", faint, end - x)
        x = canvas.text(x, y, value, look, end - x)
    used = min(y + (x > box.x) - box.y, box.rows)
    return box._replace(y=box.y + used, rows=box.rows - used)


# --- charts


def throughput(canvas: Canvas, box: Box, scene: Scene, lit: bool = False) -> None:
    """What was published and done, above the axis, and what failed, below it."""
    charts, style = scene.charts, scene.panes.style
    inner_cells = box.cells - 4
    cells = max(inner_cells - LABELS, 1)
    scale = time_scale(scene, cells, canvas.per_cell)
    arrived = scale.values(charts.series["published"])
    arrivals = "in"
    if not any(v is not None for v in arrived):
        arrived, arrivals = scale.values(charts.series["in"]), "received"
    done, failed = scale.values(charts.series["done"]), scale.values(charts.series["failed"])
    if scene.cross is None:
        now = [_latest(values) for values in (arrived, done, failed)]
        head = "Throughput"
    else:
        at = min(max(int((scene.cross - scale.begin) // scale.step), 0), scale.columns - 1)
        now = [values[at] for values in (arrived, done, failed)]
        head = time.strftime("%H:%M:%S", time.localtime(scene.cross))
    summary: list[tuple[str, str]] = []
    for word, value, role in zip((arrivals, "done", "failed"), now, ("in", "done", "failed"), strict=True):
        summary.append((f"{'  ' if summary else ''}{word} {per_s(value)}", scene.panes.thin(role)))
    inner = framed(canvas, box, scene, head, summary, lit)
    rows = inner.rows
    has_labels = rows >= 5
    below = (2 if rows >= 9 else 1) if rows >= 4 else 0
    above = max(rows - 1 - below - has_labels, 1)
    top, worst = nice_top([*arrived, *done], LEAST_RATE), nice_top(failed, LEAST_RATE)
    x = inner.x + LABELS
    canvas.area(x, inner.y, cells, above, [Layer(arrived, style("in")), Layer(done, style("done"))], top)
    canvas.scale(inner.x, inner.y, above, LABELS - 1, top, style("faint"), "/s")
    axis = inner.y + above
    if below:
        canvas.right(inner.x + LABELS - 1, axis + below, _short(worst), style("faint"))
        for row in range(below):
            canvas.put(x - 1, axis + 1 + row, "|" if scene.panes.plain else "┤", style("faint"))
        canvas.hanging(x, axis + 1, cells, below, Layer(failed, style("failed")), worst)
    canvas.time_axis(x, axis, cells, scale.begin, scale.end, style("faint"), labels=False)
    if has_labels:
        _times(canvas, x, axis + below + 1, cells, scale, style("faint"))
    canvas.right(inner.x + LABELS - 1, axis, "0", style("faint"))
    marks(canvas, scene, scale, x, axis, cells)
    crosshair(canvas, scene, scale, Box(x, inner.y, cells, above + 1 + below))


def run_time(canvas: Canvas, box: Box, scene: Scene) -> None:
    """How long tasks ran: a heat map of their number by time and duration."""
    charts, style = scene.charts, scene.panes.style
    inner = Box(box.x + 2, box.y + 1, box.cells - 4, box.rows - 2)
    found = quantiles(charts.run.within(scene.range_number, scene.picture.at))
    waited = quantiles(charts.wait.within(scene.range_number, scene.picture.at))
    total = sum(charts.run.within(scene.range_number, scene.picture.at)) if found is None else 0
    summary = [(f"n {total}  ", style("faint"))]
    if found:
        words = [(f"p{n}", short_age(value)) for n, value in zip((50, 95, 99), found, strict=True)]
        summary = [(f"{word} {value}  ", style(word)) for word, value in words]
    summary.append((f"wait {short_age(waited[1]) if waited else '-'}", style("faint")))
    framed(canvas, box, scene, "Run time", summary)
    cells, room = inner.cells - LABELS - 1, inner.rows - 2
    if room < 1:
        return
    scale = time_scale(scene, cells, 1, HEAT[scene.range_number][0])
    columns = charts.heat.within(scene.range_number, scale.until, scale.step, scale.columns)
    used = [row for row in range(ROWS) if any(c and c[row] for c in columns)]
    high = used[-1] if used else 5
    low = max(min(used[0] if used else 0, max(high - room + 1, 0)), high - room + 1, 0)
    folded = [[sum(c[: low + 1]), *c[low + 1 : high + 1]] if c else None for c in columns]
    tall = max(min(room // (high - low + 1), 2), 1)
    x = inner.x + LABELS + 1
    lines = [[v for v in c for _ in range(tall)] if c else None for c in folded]
    height = (high - low + 1) * tall
    y = inner.y + room - height
    canvas.heat(x, y, height, lines, [style(word) for word in SHARES] if not scene.panes.plain else [""] * 5)
    for row in range(low, high + 1):
        at = y + (high - row) * tall
        label = short_age(EDGES_S[row]) if row < len(EDGES_S) else "longer"
        canvas.right(x - 1, at, label, style("faint"))
        for line in range(tall):
            canvas.put(x - 1, at + line, "|" if scene.panes.plain else "┤", style("faint"))
    axis = inner.y + room
    canvas.time_axis(x, axis, cells, scale.begin, scale.end, style("faint"), labels=False)
    _times(canvas, x, axis + 1, cells, scale, style("faint"))
    marks(canvas, scene, scale, x, axis, cells)
    crosshair(canvas, scene, scale, Box(x, inner.y, cells, room + 1))


def utilisation(canvas: Canvas, box: Box, scene: Scene) -> None:
    """Slots in use, of those that are known and of those of silent workers."""
    charts = scene.charts
    busy, slots, unknown = (charts.series[n].now for n in ("busy", "slots", "unknown"))
    summary = "-" if busy is None or slots is None else f"{busy:.0f}/{slots + (unknown or 0):.0f} slots busy"
    if unknown:
        summary += f" · {unknown:.0f} unknown"
    inner = framed(canvas, box, scene, "Utilisation", summary)
    area(canvas, inner, scene, [("busy", "running")], charts.series, "", charts.series["slots"])


def area(
    canvas: Canvas,
    inner: Box,
    scene: Scene,
    names: Sequence[tuple[str, str]],
    series: dict[str, Series],
    unit: str,
    whole: Series | None = None,
) -> Extent:
    """A chart of filled lines with both axes; whole: a series that gives the top, drawn as a line. The labels
    at its left take what they need. Returns what the first line shows."""
    style, per_cell = scene.panes.style, canvas.per_cell
    every = [*(series[name] for name, _ in names), *([whole] if whole is not None else [])]
    scale = time_scale(scene, max(inner.cells - LEAST_LABELS, 1), per_cell)
    lines = [scale.values(one) for one in every]
    top = nice_top([v for one in lines for v in one], LEAST_RATE if unit == "/s" else 1.0)
    has_labels = inner.rows >= 4
    above = max(inner.rows - 1 - has_labels, 1)
    labels = max(*(width(label) for label in axis_labels(above, top, unit).values()), LEAST_LABELS - 1) + 1
    cells = max(inner.cells - labels, 1)
    wide, scale = scale, time_scale(scene, cells, per_cell)
    if scale.step == wide.step:
        lines = [line[len(line) - scale.columns :] for line in lines]
    else:
        lines = [scale.values(one) for one in every]
    x = inner.x + labels
    layers = [Layer(one, style(word)) for one, (_, word) in zip(lines, names, strict=False)]
    canvas.area(x, inner.y, cells, above, layers, top)
    canvas.scale(inner.x, inner.y, above, labels - 1, top, style("faint"), unit)
    canvas.right(x - 1, inner.y + above, "0", style("faint"))
    canvas.time_axis(x, inner.y + above, cells, scale.begin, scale.end, style("faint"), labels=False)
    if has_labels:
        _times(canvas, x, inner.y + above + 1, cells, scale, style("faint"))
    marks(canvas, scene, scale, x, inner.y + above, cells)
    crosshair(canvas, scene, scale, Box(x, inner.y, cells, above + 1))
    now = series[names[0][0]].now
    known = [value for value in (*lines[0], now) if value is not None]
    return Extent(now, min(known, default=None), max(known, default=None), unit)


def _times(canvas: Canvas, x: int, y: int, cells: int, scale: TimeScale, style: str) -> None:
    """The labels of a time axis, without its line."""
    if not 0 <= y < canvas.rows:
        return
    other = Canvas(cells + 1, 2, canvas.look)
    other.time_axis(1, 0, cells, scale.begin, scale.end, style)
    for column in range(cells):
        if other.chars[1][column + 1] != " ":
            canvas.put(x + column, y, other.chars[1][column + 1], style)


def marks(canvas: Canvas, scene: Scene, scale: TimeScale, x: int, y: int, cells: int) -> None:
    """Changes, as arrows on a time axis."""
    for change in scene.charts.changes:
        column = scale.cell_of(change.at)
        if 0 <= column < cells and change.at <= scene.picture.at:
            canvas.put(x + column, y, "^" if scene.panes.plain else "↑", scene.panes.style("retrying"))


def crosshair(canvas: Canvas, scene: Scene, scale: TimeScale, box: Box) -> None:
    if scene.cross is None:
        return
    column = min(max(scale.cell_of(scene.cross), 0), box.cells - 1)
    for row in range(box.rows):
        x, y = box.x + column, box.y + row
        if 0 <= y < canvas.rows and 0 <= x < canvas.columns:
            if canvas.chars[y][x] == " ":
                canvas.chars[y][x] = "|" if scene.panes.plain else "│"
            canvas.styles[y][x] = "bold reverse"


def _latest(values: Sequence[float | None]) -> float | None:
    """The value of the last column that is complete; of the one before while that has no value yet."""
    return next((value for value in values[-2:-4:-1] if value is not None), None)


def per_s(value: float | None) -> str:
    """A rate as text; `-` when it is unknown."""
    if value is None:
        return "-"
    return f"~{value:,.0f}/s" if value >= 10 or value == 0 else f"~{value:.1f}/s"


def _short(value: float) -> str:
    return f"{value:.3g}"


def short_age(seconds: float | None) -> str:
    """A duration in at most six characters: 3 ms, 0.4 s, 12 s, 3m20s."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    return f"{seconds:.0f} s" if seconds < 100 else age(seconds)
