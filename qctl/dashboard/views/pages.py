"""The first tab of a page as framed panels: a task, a worker, a queue, a group of failures.

In:  a Scene, a row of a Snapshot, the room.  Out: a Canvas as high as its panels, and at least as high as the
room. Panels stand in one to three columns, each below the shortest column so far; what is left of a column
goes to its charts. Before this: screens/details.py.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from rich.cells import chop_cells
from rich.text import Text

from qcore.events.store.table import TaskSeen
from qctl.dashboard.state.latency import EDGES_S, row_of, rows_of
from qctl.dashboard.state.rings import Series
from qctl.dashboard.state.series import quantiles
from qctl.dashboard.state.snapshot import FailureRow, QueueRow, WorkerRow
from qctl.dashboard.views import latest, panels
from qctl.dashboard.views.alerts import figure, outlook
from qctl.dashboard.views.cells import rate
from qctl.dashboard.views.details import Facts, queue_sheet, sheet_of, task_facts
from qctl.dashboard.views.panels import Box, Scene, short_age
from qctl.dashboard.widgets.canvas import Canvas, Span
from qctl.output import state_styles
from qctl.output.text import age, cut, shown, shown_lines, width

#: the least width of a column, and the most columns
LEAST, MOST = 58, 3
#: lines of a text; longer ones are cut at the top, where a traceback says least
LONGEST = 2_000
#: so many other tasks of its name are listed on the page of a task
NEWEST = 60
#: so many of them at most
MOST_OTHERS = 14
#: lines of a chart that has no more room
CHART = 8
#: changes that are listed with a kind of failure
MOST_CHANGES = 8
#: facts of a task by panel; what is not named here is in the first one
TIMES = ("sent", "received", "started", "ended", "runtime", "retries", "eta", "expires")
CALL = ("arguments", "keywords")
LINKS = ("parent", "root")
ENDED = ("result", "exception")
#: the chart of a panel: where it is drawn
Draw = Callable[[Canvas, Box], object]
#: the parts of a line: text, and the word of its style
Line = list[tuple[str, str]]


class Block(NamedTuple):
    """One panel: a bar (one line), facts, a text, and a chart of so many lines (0: all that are left)."""

    title: str
    summary: str = ""
    facts: Sequence[tuple[str, str]] = ()
    text: str = ""
    bar: Draw | None = None
    chart: Draw | None = None
    chart_lines: int = 0

    def lines(self, cells: int) -> list[Line]:
        """What stands in it at this width: the facts one after the other, a long one in lines of its own, and
        the text."""
        found: list[Line] = []
        used = 0
        for name, value in self.facts:
            label, safe = f"{shown(name)} " if name else "", shown(value)
            length = width(label) + width(safe)
            if found and "\n" not in value and used + 3 + length <= cells:
                found[-1] += [(" · ", "faint"), (label, "faint"), (safe, "")]
                used += 3 + length
                continue
            lines = folded(value, max(cells - width(label), 8)) or [""]
            for number, line in enumerate(lines):
                found.append([(" " * width(label) if number else label, "faint"), (line, "")])
            used = width(label) + width(lines[-1])
        text = folded(self.text, cells)
        missing = len(text) - LONGEST
        found += [[(f"… {missing:,} more lines", "faint")]] if missing > 0 else []
        for line in text[-LONGEST:]:
            is_place = line.startswith("Traceback ") or line.lstrip().startswith('File "')
            found.append([(line, "faint" if is_place else "" if line.startswith(" ") else "failed")])
        return found


def folded(text: str, cells: int) -> list[str]:
    """The lines of a text, made safe, those that are too long in several."""
    lines: list[str] = []
    for line in shown_lines(text).split("\n") if text else ():
        if width(line) <= cells:
            lines.append(line)
        elif line.isascii():
            lines += textwrap.wrap(line, cells, replace_whitespace=False, drop_whitespace=False)
        else:
            lines += chop_cells(line, cells)
    return lines


def page(scene: Scene, row: Any, cells: int, rows: int) -> Canvas | None:
    """The panels of a row; None: it has none."""
    make = next((make for kind, make in BLOCKS if isinstance(row, kind)), None)
    if make is None:
        return None
    blocks = make(scene, row)
    count = min(max(cells // LEAST, 1), MOST, len(blocks))
    ends = [cells * (number + 1) // count for number in range(count)]
    columns: list[list[tuple[Block, list[Line], int]]] = [[] for _ in ends]
    used = [0] * count
    for block in blocks:
        # What is left of a column goes to its charts, so each gets one.
        is_open = block.chart is not None and not block.chart_lines
        full = [is_open and any(b.chart and not b.chart_lines for b, _, _ in column) for column in columns]
        at = min(range(count), key=lambda number: (full[number], used[number]))
        lines = block.lines(ends[0] - 4)
        height = len(lines) + 2 + (block.bar is not None)
        height += (block.chart_lines or CHART) if block.chart else 0
        columns[at].append((block, lines, height))
        used[at] += height
    whole = max(*used, rows)
    canvas = Canvas(cells, whole, scene.look)
    for number, column in enumerate(columns):
        x, y = ends[number - 1] if number else 0, 0
        charts = [n for n, (block, _, _) in enumerate(column) if block.chart and not block.chart_lines]
        charts = charts or [len(column) - 1]
        for place, (block, lines, height) in enumerate(column):
            if place in charts:
                turn, left = charts.index(place), whole - used[number]
                height += left * (turn + 1) // len(charts) - left * turn // len(charts)
            _draw(canvas, Box(x, y, ends[number] - x, height), scene, block, lines)
            y += height
    return canvas


def _draw(canvas: Canvas, box: Box, scene: Scene, block: Block, lines: Sequence[Line]) -> None:
    style = scene.panes.style
    inner = panels.framed(canvas, box, scene, block.title, block.summary)
    y = inner.y
    if block.bar is not None:
        block.bar(canvas, inner._replace(rows=1))
        y += 1
    for line in lines:
        x = inner.x
        for text, word in line:
            x = canvas.text(x, y, text, style(word), inner.x + inner.cells - x)
        y += 1
    if block.chart is not None:
        block.chart(canvas, inner._replace(y=y, rows=inner.y + inner.rows - y))


def as_text(canvas: Canvas) -> Text:
    """The canvas as lines of a text."""
    text = Text(no_wrap=True)
    for y in range(canvas.rows):
        before, run = "", ""
        for char, style in zip(canvas.chars[y], canvas.styles[y], strict=True):
            if style != before:
                text.append(run, before)
                before, run = style, ""
            run += char
        text.append(f"{run}\n", before)
    text.right_crop(1)
    return text


# --- what each row has


def phases(row: TaskSeen, now: float) -> list[tuple[str, float, float]]:
    """What the last attempt of a task did from when to when: it was queued, reserved by a worker, it ran."""
    end = row.ended or now
    steps = [("queued", row.sent), ("reserved", row.received), ("ran", row.started)]
    known = [(word, at) for word, at in steps if at is not None]
    ends = [at for _, at in known] + [end]
    return [(word, at, max(until, at)) for (word, at), until in zip(known, ends[1:], strict=True)]


def took(row: TaskSeen, now: float) -> str:
    """How long each phase took, and whether the task was tried before."""
    words = [f"{word} {short_age(until - at)}" for word, at, until in phases(row, now)]
    words += [f"try {row.retries + 1}"] if row.retries else []
    return " · ".join(words) or "no event with a time was seen"


def phase_bar(canvas: Canvas, box: Box, scene: Scene, row: TaskSeen) -> None:
    """The phases as one line; each has at least one cell."""
    found, style = phases(row, scene.panes.now), scene.panes.style
    marks = dict(zip(("queued", "reserved", "ran"), ".:#" if scene.panes.plain else "░▒▓", strict=True))
    ran = "failed" if row.state == "FAILURE" else "running"
    looks = {"queued": style("faint"), "reserved": style("reserved"), "ran": style(ran)}
    spans = [Span(at, until, marks[word], looks[word]) for word, at, until in found]
    if spans:
        end = max(spans[-1].end, spans[0].begin + 0.001)
        canvas.gantt(box.x, box.y, box.cells, spans, spans[0].begin, end)


def bars(canvas: Canvas, box: Box, scene: Scene, rows: Sequence[tuple[str, int, str]], word: str) -> None:
    """Labels, counts and bars, with a remark behind; word: the state whose colour they have. They are two or
    three lines high if there is room."""
    style, most = scene.panes.style, max((count for _, count, _ in rows), default=0)
    tall = max(min(box.rows // max(len(rows), 1), 3), 1)
    label = max((width(shown(name)) for name, _, _ in rows), default=0)
    number = max((len(f"{count:,}") for _, count, _ in rows), default=0)
    room = box.cells - label - number - 3 - max((len(remark) for _, _, remark in rows), default=0)
    for place, (name, count, remark) in enumerate(rows[: max(box.rows // tall, 0)]):
        y = box.y + place * tall
        canvas.right(box.x + label, y, name, style("faint"))
        canvas.right(box.x + label + number + 1, y, f"{count:,}")
        x = box.x + label + number + 2
        length = max(round(count / most * room), 1) if count else 0
        for line in range(max(tall - 1, 1)):
            for column in range(length):
                canvas.put(x + column, y + line, "#" if scene.panes.plain else "█", scene.panes.thin(word))
        canvas.text(x + length + 1, y, remark, style("faint"))


def _run_times(scene: Scene, row: TaskSeen, counts: Sequence[int]) -> Draw:
    """How many tasks of this name ran how long, and where this one stands."""
    rows = rows_of(counts)
    own = None if row.runtime is None else row_of(row.runtime)
    used = [n for n, count in enumerate(rows) if count or n == own]
    arrow = "<" if scene.panes.plain else "◂"
    lines = [
        (
            f"to {short_age(EDGES_S[n])}" if n < len(EDGES_S) else "longer",
            rows[n],
            f"{arrow} this one" if n == own else "",
        )
        for n in range(used[0], used[-1] + 1)
    ]
    return lambda canvas, box: bars(canvas, box, scene, lines, "running")


def _task(scene: Scene, row: TaskSeen) -> list[Block]:
    facts = dict(task_facts(row))
    apart = {*TIMES, *CALL, *LINKS, *ENDED}
    own = [(name, value) for name, value in facts.items() if name not in apart]
    word = state_styles.look(row.state).word
    blocks = [
        Block("Task", word, own),
        Block(
            "Times",
            took(row, scene.panes.now),
            _those(facts, TIMES),
            bar=lambda canvas, box: phase_bar(canvas, box, scene, row),
        ),
        Block("Call", facts=_those(facts, CALL) or [("arguments", "-")]),
    ]
    if row.traceback or row.exception or row.result:
        title = "Failure" if row.traceback or row.exception else "Result"
        blocks.append(Block(title, facts=_those(facts, ENDED), text=row.traceback))
    links = _those(facts, LINKS)
    links += [("tree", f"qctl task tree {row.root_id or row.uuid}"), ("log", f"qctl task logs {row.uuid}")]
    blocks.append(Block("Links", "Tab: their output", links))
    blocks += _surroundings(scene, row.queue, row.worker)
    known = scene.charts.types.get(row.name)
    if known is None:
        return blocks
    counts = known.run.within(scene.range_number, scene.picture.at)
    found = quantiles(counts)
    if found is not None:
        words = zip(("p50", "p95", "p99"), map(short_age, found), strict=True)
        tall = max(sum(map(bool, rows_of(counts))), 1)
        usual = f"{' '.join(f'{name} {value}' for name, value in words)} · {scene.words}"
        chart = _run_times(scene, row, counts)
        blocks.append(Block(f"Run times of {cut(row.name, 20)}", usual, chart=chart, chart_lines=tall))
    lines = {"done": known.done, "failed": known.failed_per_s}
    chart = _area(scene, [("done", "done"), ("failed", "failed")], lines, "/s")
    name = cut(row.name, 24)
    others = [one for one in latest.newest(scene.picture, "names", row.name, NEWEST) if one.uuid != row.uuid]
    newest = partial(latest.tasks, scene=scene, rows=others, nothing="no other was seen lately", alike="TASK")
    tall = min(len(others), MOST_OTHERS) + 1
    blocks.append(Block(f"Newest {name}", "its last calls", chart=newest, chart_lines=tall))
    blocks.append(Block(f"{name}, done and failed", f"per second · {scene.words}", chart=chart))
    chart = _area(scene, [("busy", "running")], {"busy": known.busy}, "")
    return [*blocks, Block(f"Slots that {name} keeps busy", scene.words, chart=chart)]


def _surroundings(scene: Scene, name: str, node: str) -> list[Block]:
    """Its queue and its worker as they are now."""
    facts: list[tuple[str, str]] = []
    for queue in scene.picture.queues:
        if queue.name == name:
            mark = "~" if queue.seen else ""
            facts += [("queue", queue.name), ("ready", f"{queue.ready:,}")]
            facts += [("oldest", "-" if queue.oldest_s is None else age(queue.oldest_s))]
            facts += [("in", f"{rate(queue.in_per_s, mark)}/s"), ("out", f"{rate(queue.out_per_s, mark)}/s")]
            facts += [("empty in", outlook(queue)[0]), ("its workers", figure(queue.consumers))]
    for worker in scene.picture.workers:
        if worker.node == node:
            mark = "" if worker.exact else "~"
            slots = f"{mark}{figure(worker.running)} of {figure(worker.slots)} busy"
            facts += [("worker", worker.node), ("state", state_styles.look(worker.state).word)]
            facts += [("slots", slots), ("heard", f"{age(worker.age_s)} ago" if worker.age_s else "now")]
            facts += [("up", "-" if worker.uptime_s is None else age(worker.uptime_s))]
    return [Block("Its queue and its worker, now", facts=facts)] if facts else []


def _worker(scene: Scene, row: WorkerRow) -> list[Block]:
    sheet = sheet_of(row)
    summary, stats = (sheet.tabs[0].facts, sheet.tabs[3].facts) if sheet else ((), ())
    blocks = [Block("Worker", state_styles.look(row.state).word, summary)]
    series = scene.charts.workers.get(row.node)
    if series is not None:
        chart = _area(scene, [("busy", "running")], {"busy": series}, "")
        blocks.append(Block("Share of slots in use", scene.words, chart=chart))
    return [*blocks, Block("Stats", "as it answered", stats)]


def _queue(scene: Scene, row: QueueRow) -> list[Block]:
    blocks = [Block("Queue", "paused" if row.paused else "open", queue_sheet(row).tabs[0].facts)]
    series = scene.charts.queues.get(row.name)
    if series is not None:
        chart = _area(scene, [("ready", "in")], {"ready": series}, "")
        blocks.append(Block("Messages ready", scene.words, chart=chart))
    return blocks


def _failure(scene: Scene, row: FailureRow) -> list[Block]:
    sheet, sample = sheet_of(row), row.sample
    facts = [fact for fact in (sheet.tabs[0].facts if sheet else ()) if fact[0] != "traceback"]
    at = next((number for number, (name, _) in enumerate(facts) if not name), len(facts))
    blocks = [Block("Failures", f"{'' if row.exact else '~'}{row.count:,}", facts[:at])]
    trace = str(getattr(sample, "traceback", "") or "")
    if facts[at + 1 :]:
        blocks.append(Block("The newest", facts=[fact for fact in facts[at + 1 :] if any(fact)]))
    if trace:
        blocks.append(Block("Traceback", "of the newest", text=trace))
    group, known = scene.charts.group(row.name, row.exc_type), scene.charts.types.get(row.name)
    since = "since the dashboard was opened"
    if group is not None:
        nodes = [(node, count, f"{count / group.count:.0%}") for node, count in group.workers.most_common(12)]
        where = partial(bars, scene=scene, rows=nodes, word="failed")
        blocks.append(Block("Where", since, chart=where, chart_lines=max(len(nodes), 1)))
        common = latest.in_common(scene, [*group.latest])
        if common:
            alike = partial(bars, scene=scene, rows=common, word="failed")
            words = f"of the latest {len(group.latest)}"
            blocks.append(
                Block("Arguments, the most frequent values", words, chart=alike, chart_lines=len(common))
            )
        chart = _area(scene, [("failed", "failed")], {"failed": group.per_s}, "/s")
        rest = CHART if group.latest or known is not None else 0
        blocks.append(Block("Failed", f"per second · {scene.words}", chart=chart, chart_lines=rest))
    worker = group.workers.most_common(1)[0][0] if group is not None and group.workers else ""
    blocks += _surroundings(scene, row.queue, worker)
    if known is not None:  # whether others of its name succeed
        lines = {"done": known.done, "failed": known.failed_per_s}
        chart = _area(scene, [("done", "done"), ("failed", "failed")], lines, "/s")
        words = f"done and failed per second · {scene.words}"
        blocks.append(Block(f"All {cut(row.name, 16)}", words, chart=chart))
    if group is not None and group.latest:
        newest = partial(latest.members, scene=scene, rows=[*reversed(group.latest)])
        blocks.append(Block("Latest", since, chart=newest))
    changes = [one for one in scene.charts.changes if one.at <= scene.picture.at][-MOST_CHANGES:]
    if changes:
        facts = [(time.strftime("%H:%M:%S", time.localtime(one.at)), one.words) for one in reversed(changes)]
        began = time.strftime("%H:%M:%S", time.localtime(row.first_at))
        blocks.insert(1, Block("Changes, newest first", f"first failure {began}", facts))
    return blocks


def _area(scene: Scene, names: Sequence[tuple[str, str]], lines: dict[str, Series], unit: str) -> Draw:
    return lambda canvas, box: panels.area(canvas, box, scene, names, lines, unit)


def _those(facts: dict[str, str], names: Sequence[str]) -> Facts:
    return [(name, facts[name]) for name in names if name in facts]


BLOCKS: tuple[tuple[type, Callable[[Scene, Any], list[Block]]], ...] = (
    (TaskSeen, _task),
    (WorkerRow, _worker),
    (QueueRow, _queue),
    (FailureRow, _failure),
)
