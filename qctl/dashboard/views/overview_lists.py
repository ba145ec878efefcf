"""The lists of the overview: queues, failures, workers, task types, changes; their rows are links.

In:  a Scene and a Panel.  Out: cells of a Canvas. Before this: overview.py decides which rows are drawn.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from qctl.dashboard.state.rings import RANGES
from qctl.dashboard.state.series import Charts, quantiles, spark_of
from qctl.dashboard.state.snapshot import FailureRow, QueueRow, Snapshot, WorkerRow
from qctl.dashboard.views import panels
from qctl.dashboard.views.alerts import figure, outlook
from qctl.dashboard.views.cells import CellFormatter, rate, where
from qctl.dashboard.views.panels import Box, Scene, framed, short_age, table
from qctl.dashboard.widgets.canvas import Canvas
from qctl.dashboard.widgets.fields import Field, Part
from qctl.output.text import age

SPARK = 12
QUEUES = (
    Field("QUEUE", 12, 0, grows=True, middle=True),
    Field("READY", 7, 0, right=True),
    Field("", SPARK, 1),
    Field("OLDEST", 6, 2, right=True),
    Field("IN/S", 6, 4, right=True),
    Field("OUT/S", 6, 3, right=True),
    Field("EMPTY IN", 8, 0),
)
FAILURES = (
    Field("COUNT", 6, 0, right=True),
    Field("", 8, 1),
    Field("TASK · EXCEPTION", 16, 0, grows=True),
    Field("LAST", 5, 2, right=True),
    Field("WORKERS", 12, 3, middle=True),
)
WORKERS = (
    Field("WORKER", 10, 0, grows=True, middle=True),
    Field("", 20, 1),
    Field("BUSY", 5, 0, right=True),
    Field("NOW", 16, 0, grows=True),
)
TYPES = (
    Field("TASK", 12, 0, grows=True),
    Field("/S", 6, 0, right=True),
    Field("FAIL", 5, 1, right=True),
    Field("P50", 6, 3, right=True),
    Field("P95", 6, 0, right=True),
    Field("BUSY", 5, 2, right=True),
    Field("", 8, 4),
)
#: a queue whose oldest message waits longer is sorted by it, seconds
WAITS_S = 10.0
#: share of failed tasks from which it is marked
POOR = 0.05
#: frame and heading of a list
AROUND = 3


class Link(msgspec.Struct, frozen=True):
    """A line; `target`: the row it is about, None for a heading or a remark."""

    key: str
    target: Any = None
    words: tuple[str, ...] = ()


def link_key(row: Any) -> str:
    """The key of the link to a row."""
    if isinstance(row, FailureRow):
        return f"failure {row.name} {row.exc_type}"
    return f"worker {row.node}" if isinstance(row, WorkerRow) else f"queue {row.name}"


class TypeRow(msgspec.Struct, frozen=True):
    """One task name, with what is known of its last tasks."""

    name: str
    per_s: float | None = None
    fail_share: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    wait: float | None = None  # 95th percentile of the time in the queue
    few: int = 0  # so many durations are too few for percentiles
    busy: float | None = None


class Panel(NamedTuple):
    """A panel at its place; links: the rows of a list."""

    name: str
    box: Box
    links: tuple[Link, ...] = ()


def ails(worker: WorkerRow) -> bool:
    """Whether the worker needs attention: not online, lost events, or a wrong clock."""
    return worker.state != "online" or worker.missed > 0 or bool(worker.clock) or worker.draining


def queue_order(row: QueueRow) -> Any:
    """Trouble first; queues whose messages do not wait keep their places."""
    trouble = {"failed": 0, "paused": 1}.get(outlook(row)[1], 2) if row.ready else 2
    oldest_s = row.oldest_s or 0.0
    return trouble, -oldest_s if oldest_s > WAITS_S else 0.0, row.name


def worker_order(row: WorkerRow) -> Any:
    """Trouble first."""
    return {"silent": 0, "gone": 2}.get(row.state, 1 if ails(row) else 3), row.node


def type_rows(charts: Charts, at: float, range_number: int) -> list[TypeRow]:
    seconds = RANGES[range_number].seconds
    step = max(seconds // 900 * 15, 15)

    def mean(series: Any) -> float | None:
        known = [v for v in series.columns(at - 15, step, seconds // step) if v is not None]
        return sum(known) / len(known) if known else None

    busiest = sorted(
        ((mean(one.busy), name, one) for name, one in list(charts.types.items())),
        key=lambda t: (-(t[0] or 0.0), t[1]),
    )
    rows = []
    for busy, name, one in busiest[:40]:
        counts = one.run.within(range_number, at)
        found, done, failed = quantiles(counts), mean(one.done), mean(one.failed_per_s)
        share = None if not done or failed is None else failed / done
        p50, p95, p99 = (None, None, None) if found is None else found
        waits = quantiles(one.wait.within(range_number, at))
        wait = None if waits is None else waits[1]
        rows.append(TypeRow(name, done, share, p50, p95, p99, wait, sum(counts), busy))
    return rows


# --- lists

#: before the first answer
UNKNOWN = "…"


def _queues(canvas: Canvas, panel: Panel, scene: Scene, chosen: int | None, marked: list[int]) -> None:
    picture = scene.picture
    ready = sum(q.ready or 0 for q in picture.queues)
    delayed = sum(q.delayed or 0 for q in picture.queues)
    summary = f"{len(picture.queues)} · {ready:,} ready" + (f" · {delayed:,} delayed" if delayed else "")
    summary = summary if picture.queues or picture.asked else UNKNOWN
    inner = framed(canvas, panel.box, scene, "Queues", summary, chosen is not None)
    rows = [queue_cells(scene, link.target) for link in panel.links]
    table(canvas, inner, scene, _named(QUEUES, scene), rows, chosen, marked)
    if not rows:
        _nothing(canvas, inner, scene, "the broker knows of no queue yet" if picture.asked else UNKNOWN)


def queue_cells(scene: Scene, row: QueueRow) -> list[Part]:
    panes, seen = scene.panes, "~" if row.seen else ""
    word, style = outlook(row)
    sign = {"paused": "= " if panes.plain else "‖ ", "never": "", "nobody": ""}.get(word, "")
    alarm = panes.style(style)
    after = {"never": " !" if panes.plain else " ▲"}.get(word, "")
    spark = spark_of(scene.charts.queues.get(row.name), scene.picture.at, scene.seconds, SPARK, panes.plain)
    return [
        Part(row.name),
        Part(figure(row.ready), alarm if word in ("never", "nobody") else ""),
        Part(spark, panes.thin(style or "in")),
        Part("-" if row.oldest_s is None else age(row.oldest_s)),
        Part(rate(row.in_per_s, seen)),
        Part(rate(row.out_per_s, seen)),
        Part(f"{sign}{word}{after}", alarm),
    ]


def _failures(canvas: Canvas, panel: Panel, scene: Scene, chosen: int | None, marked: list[int]) -> None:
    rows = scene.picture.failures
    total = sum(f.count for f in rows)
    summary = f"{total:,} · {len(rows)} {'group' if len(rows) == 1 else 'groups'}" if rows else "none"
    summary = summary if rows or scene.picture.asked else UNKNOWN
    inner = framed(canvas, panel.box, scene, "Failures", summary, chosen is not None)
    cells = [failure_cells(scene, link.target) for link in panel.links]
    table(canvas, inner, scene, _named(FAILURES, scene), cells, chosen, marked)
    if not cells:
        words = "no failed task is stored, and none was seen"
        _nothing(canvas, inner, scene, words if scene.picture.asked else UNKNOWN)


def failure_cells(scene: Scene, row: FailureRow) -> list[Part]:
    panes = scene.panes
    group = scene.charts.group(row.name, row.exc_type)
    spark = spark_of(
        group.per_s if group is not None else None, scene.picture.at, scene.seconds, 8, panes.plain
    )
    return [
        Part(f"{'' if row.exact else '~'}{row.count:,}", panes.style("failed")),
        Part(spark, panes.thin("failed") if group is not None else panes.style("faint")),
        Part(f"{row.name or '?'} {row.exc_type.rpartition('.')[2] or '?'}"),
        Part(age(max(panes.now - row.last_at, 0.0))),
        Part(where(group.workers if group is not None else {})),
    ]


def _workers(canvas: Canvas, panel: Panel, scene: Scene, chosen: int | None, marked: list[int]) -> None:
    inner = framed(canvas, panel.box, scene, "Workers", workers_summary(scene.picture), chosen is not None)
    rows = [worker_cells(scene, link.target) for link in panel.links]
    table(canvas, inner, scene, _named(WORKERS, scene), rows, chosen, marked)
    rest = len(scene.picture.workers) - len(rows)
    if rest > 0:
        text = f" + {rest} more, {'all well' if not any(map(ails, _rest(scene, panel))) else 'see 2'} "
        canvas.text(inner.x, inner.y + inner.rows, text, scene.panes.style("faint"))
    if not rows:
        _nothing(canvas, inner, scene, "no worker is online" if scene.picture.asked else UNKNOWN)


def _rest(scene: Scene, panel: Panel) -> list[WorkerRow]:
    drawn = {link.target.node for link in panel.links}
    return [w for w in scene.picture.workers if w.node not in drawn]


def workers_summary(picture: Snapshot) -> str:
    states = [w.state for w in picture.workers]
    if not (states or picture.asked):
        return UNKNOWN
    parts = [f"{states.count('online')} online"]
    parts += [f"{states.count(s)} {s}" for s in ("silent", "gone") if s in states]
    known = [w for w in picture.workers if w.slots and w.running is not None and w.state == "online"]
    if known:
        parts.append(f"{sum(w.running or 0 for w in known)}/{sum(w.slots or 0 for w in known)} busy")
    return " · ".join(parts)


def worker_cells(scene: Scene, row: WorkerRow) -> list[Part]:
    panes = scene.panes
    seen = "" if row.exact else "~"
    busy = f"{seen}{'-' if row.running is None else row.running}/{'-' if row.slots is None else row.slots}"
    words, style = "", ""
    if row.state != "online":
        look = panes.state(row.state)
        held = f", holds ~{row.running}" if row.running and row.state == "silent" else ""
        words, style = f"{look.text} {age(row.age_s) if row.age_s else ''}{held}", look.style
    elif row.draining:
        words, style = panes.state("draining")
    elif row.clock:
        words, style = f"clock {row.clock}", panes.style("paused")
    elif row.missed:
        words, style = f"lost {row.missed:,} events", panes.style("paused")
    elif row.per_s is not None:
        words, style = f"{rate(row.per_s)}/s", panes.style("faint")
    spark = spark_of(
        scene.charts.workers.get(row.node), scene.picture.at, scene.seconds, 20, panes.plain, 1.0
    )
    return [
        Part(row.node),
        Part(spark, panes.thin("running")),
        Part(busy),
        Part(words, style),
    ]


def _types(canvas: Canvas, panel: Panel, scene: Scene, chosen: int | None, marked: list[int]) -> None:
    inner = framed(
        canvas, panel.box, scene, "Task types", f"by slots kept busy · {scene.words}", chosen is not None
    )
    rows = [type_cells(scene, link.target) for link in panel.links]
    table(canvas, inner, scene, TYPES, rows, chosen, marked)
    if not rows:
        _nothing(canvas, inner, scene, "no task has ended since the dashboard was opened")


def type_cells(scene: Scene, row: TypeRow) -> list[Part]:
    panes, one = scene.panes, scene.charts.types.get(row.name)
    poor = row.fail_share is not None and row.fail_share >= POOR
    few = f"n {row.few}" if row.p95 is None else ""
    spark = spark_of(one.busy if one else None, scene.picture.at, scene.seconds, 8, panes.plain)
    return [
        Part(row.name),
        Part(rate(row.per_s, "~")),
        Part(
            "-" if row.fail_share is None else f"{row.fail_share:.0%}", panes.style("failed") if poor else ""
        ),
        Part("-" if row.p50 is None else short_age(row.p50)),
        Part(few or short_age(row.p95)),
        Part("-" if row.busy is None else f"~{row.busy:.1f}"),
        Part(spark, panes.thin("running")),
    ]


def type_row(panes: CellFormatter, row: TypeRow) -> list[Part]:
    """The cells of a task type on a screen of its own."""
    one = panes.charts.types.get(row.name) if panes.charts is not None else None
    poor = row.fail_share is not None and row.fail_share >= POOR
    return [
        Part(row.name),
        panes.trend(one.busy if one is not None else None, "running"),
        Part(rate(row.per_s, "~")),
        Part(
            "-" if row.fail_share is None else f"{row.fail_share:.0%}", panes.style("failed") if poor else ""
        ),
        Part(short_age(row.wait)),
        Part(short_age(row.p50)),
        Part(f"n {row.few}" if row.p95 is None else short_age(row.p95)),
        Part(short_age(row.p99)),
        Part("-" if row.busy is None else f"~{row.busy:.1f}"),
    ]


def _changes(canvas: Canvas, panel: Panel, scene: Scene, chosen: int | None, marked: list[int]) -> None:
    inner = framed(canvas, panel.box, scene, "Changes", "! audit log")
    past = [c for c in scene.charts.changes if c.at <= scene.picture.at]
    for number, change in enumerate(reversed(past[-inner.rows :] if inner.rows > 0 else [])):
        at = time.strftime("%H:%M:%S", time.localtime(change.at))
        end = canvas.text(inner.x, inner.y + number, f"{at}  ", scene.panes.style("faint"), inner.cells)
        room = inner.x + inner.cells - end
        canvas.text(end, inner.y + number, change.words, scene.panes.style(change.word), room)
    if not past:
        words = "none seen: restarts, pauses, pools, workers that come and go"
        canvas.text(inner.x, inner.y, words, scene.panes.style("faint"), inner.cells)


def _strip(canvas: Canvas, panel: Panel, scene: Scene, chosen: int | None, marked: list[int]) -> None:
    """The workers in one line."""
    panes, x, y, end = scene.panes, panel.box.x + 1, panel.box.y, panel.box.cells - 12
    workers = sorted(scene.picture.workers, key=worker_order)
    drawn = 0
    for row in workers:
        name = row.node.partition("@")[0][:12]
        if x + len(name) + 9 > end:
            break
        x = canvas.text(x, y, f"{name} ", panes.style("failed") if row.state == "silent" else "") + 0
        if row.state == "online" and row.slots and row.running is not None:
            full, idle = ("#", ".") if panes.plain else ("█", "░")
            parts = [
                (row.running, full, panes.style("running")),
                (row.slots - row.running, idle, panes.style("faint")),
            ]
            canvas.strip(x, y, 5, [p for p in parts if p[0] > 0])
        else:
            canvas.text(x, y, "?????" if row.state == "silent" else "-----", panes.style(row.state))
        x += 7
        drawn += 1
    if drawn < len(workers):
        well = all(not ails(w) for w in workers[drawn:])
        canvas.text(x, y, f"+{len(workers) - drawn} {'well' if well else 'more'}", panes.style("faint"))


def _nothing(canvas: Canvas, inner: Box, scene: Scene, words: str) -> None:
    canvas.text(inner.x, inner.y + min(1, inner.rows - 1), words, scene.panes.style("faint"), inner.cells)


def _named(fields: Sequence[Field], scene: Scene) -> list[Field]:
    """The fields, with the range as the heading of the sparklines."""
    return [f if f.name else f._replace(name=scene.words.upper()) for f in fields]


DRAW: dict[str, Any] = {
    "throughput": lambda canvas, panel, scene, *_: panels.throughput(canvas, panel.box, scene),
    "run": lambda canvas, panel, scene, *_: panels.run_time(canvas, panel.box, scene),
    "utilisation": lambda canvas, panel, scene, *_: panels.utilisation(canvas, panel.box, scene),
    "queues": _queues,
    "failures": _failures,
    "workers": _workers,
    "types": _types,
    "changes": _changes,
    "strip": _strip,
}
