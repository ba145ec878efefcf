"""The band below a list: the selected row, opened.

In:  a Scene, a row of a Snapshot, the room.  Out: a Canvas with the frame that closes the list.
"""

from __future__ import annotations

import time
from typing import Any

from qcore.events.store.table import TaskSeen
from qctl.dashboard.state.schedules import ScheduleRow
from qctl.dashboard.state.series import Change, quantiles
from qctl.dashboard.state.snapshot import EventRow, FailureRow, QueueRow, WorkerRow
from qctl.dashboard.views import broker, latest, pages, panels, schedules
from qctl.dashboard.views.alerts import figure, outlook
from qctl.dashboard.views.cells import rate, where
from qctl.dashboard.views.details import sheet_of, task_facts
from qctl.dashboard.views.episodes import Episode, lasted
from qctl.dashboard.views.overview_lists import TypeRow
from qctl.dashboard.views.panels import Box, Scene, short_age
from qctl.dashboard.widgets.canvas import Canvas
from qctl.output import state_styles
from qctl.output.text import age, shown_lines, stamp

#: a change that came at most so long before the first failure is named, seconds
CAUSE_S = 300.0
#: lines from which on a chart is drawn below a text
LEAST_CHART = 6
#: lines of a band from which on it tells what became of the newest tasks
LEAST_TALL = 8


def paint(scene: Scene, row: Any, cells: int, rows: int) -> Canvas:
    """The band; with one line only the lower edge of the list's frame."""
    style = scene.panes.style
    if rows < 3:
        canvas = Canvas(cells, rows, scene.look)
        left, flat, right = "+-+" if scene.panes.plain else ("╰", "─", "╯")
        canvas.text(0, 0, left + flat * (cells - 2) + right, style("frame"))
        return canvas
    canvas = panels.opened(scene, cells, rows, closes=True)
    inner = Box(2, 1, cells - 4, rows - 2)
    kinds: tuple[tuple[type, Any], ...] = (
        (QueueRow, _queue),
        (WorkerRow, _worker),
        (FailureRow, _failure),
        (TaskSeen, _task),
        (TypeRow, _type),
        (ScheduleRow, schedules.entry),
        (EventRow, _event),
        (Episode, _episode),
        (tuple, broker.fact),
    )
    draw = next((draw for kind, draw in kinds if isinstance(row, kind)), None)
    if draw is not None:
        title, summary = draw(canvas, inner, scene, row)
        canvas.title(0, 0, cells, title, summary, "bold", style("faint"))
    return canvas


def split(box: Box) -> tuple[Box, Box | None]:
    """The room of a chart at the left, and of lists beside it, if there is room for them."""
    left = box.cells * 2 // 5
    if left < latest.LEAST_LIST:
        return box, None
    return box._replace(cells=left), box._replace(x=box.x + left + 1, cells=box.cells - left - 1)


def _queue(canvas: Canvas, inner: Box, scene: Scene, row: QueueRow) -> tuple[str, str]:
    style, seen = scene.panes.style, "~" if row.seen else ""
    series = scene.charts.queues.get(row.name)
    word, look = outlook(row)
    ignored = ", ".join(row.pause_ignored_by)
    facts = [
        ("ready", figure(row.ready), ""),
        ("in flight", figure(row.in_flight), ""),
        ("delayed", figure(row.delayed), ""),
        ("oldest", "-" if row.oldest_s is None else age(row.oldest_s), ""),
        ("in", f"{rate(row.in_per_s, seen)}/s", ""),
        ("out", f"{rate(row.out_per_s, seen)}/s", ""),
        ("empty in", word, style(look)),
        ("workers", _takers(scene, row), style("failed") if row.consumers == 0 else ""),
    ]
    if row.paused:
        said = f"paused, but not for {ignored}" if ignored else "paused: no worker takes from it"
        facts.append(("state", said, style("paused")))
    found = (
        latest.newest(scene.picture, "queues", row.name, latest.MOST_SEEN) if inner.rows >= LEAST_TALL else []
    )
    facts += latest.in_words(scene, found)
    chart, lists = split(panels.flow(canvas, inner, scene, facts))
    if lists is not None:
        chart = latest.of_queue(canvas, chart, lists, scene, row.name, found)
    extent = None
    if series is not None:
        extent = panels.area(canvas, chart, scene, [("ready", "in")], {"ready": series}, "")
    last = "" if lists is None else " · who takes from it, its tasks"
    return row.name, f"ready: {extent or '-'} · {scene.words}{last} · P pauses, Z purges"


def _takers(scene: Scene, row: QueueRow) -> str:
    """How many workers take from a queue, and how busy these are, with all of their queues."""
    known = [w for w in scene.panes.takers(row.name) if w.state == "online" and w.slots]
    busy, slots = sum(w.running or 0 for w in known), sum(w.slots or 0 for w in known)
    return f"{figure(row.consumers)}{f', {busy:,}/{slots:,} busy' if known else ''}"


def _worker(canvas: Canvas, inner: Box, scene: Scene, row: WorkerRow) -> tuple[str, str]:
    style = scene.panes.style
    series = scene.charts.workers.get(row.node)
    seen = "" if row.exact else "~"
    look = state_styles.look("draining" if row.draining else row.state)
    facts = [
        ("state", f"{look.word}{f', {age(row.age_s)} ago' if row.age_s else ''}", style(look.word)),
        ("slots", f"{seen}{'-' if row.running is None else row.running} of {row.slots or '-'} busy", ""),
        ("held", "-" if row.held is None else f"{row.held}, running ones too", ""),
        ("queues", ", ".join(row.queues) or "-", ""),
        ("failed", f"~{figure(row.failed)} seen", style("failed") if row.failed else ""),
        ("software", row.software or "-", ""),
        ("clock", row.clock or "as ours", style("paused") if row.clock else ""),
        ("lost", f"{row.missed:,} events", style("failed") if row.missed else ""),
        ("pid, up", f"{row.pid or '-'}, {'-' if row.uptime_s is None else age(row.uptime_s)}", ""),
        ("numbers", "from its own reply" if row.exact else "seen: from its events", style("faint")),
    ]
    chart, lists = split(panels.flow(canvas, inner, scene, facts))
    if series is not None:
        panels.area(canvas, chart, scene, [("busy", "running")], {"busy": series}, "")
    if lists is not None:
        found = latest.newest(scene.picture, "workers", row.node, lists.rows)
        latest.tasks(canvas, lists, scene, found, "no task of this worker was seen lately", "WORKER")
    last = "" if lists is None else " · its newest tasks"
    return row.node, f"share of slots in use · {scene.words}{last}"


def _failure(canvas: Canvas, inner: Box, scene: Scene, row: FailureRow) -> tuple[str, str]:
    style, sample = scene.panes.style, row.sample
    trace = str(getattr(sample, "traceback", "") or "")
    message = str(getattr(sample, "exc_message", "") or getattr(sample, "exception", ""))
    args, kwargs = str(getattr(sample, "args", "")), str(getattr(sample, "kwargs", ""))
    group = scene.charts.group(row.name, row.exc_type)
    facts = [
        (
            "how many",
            f"{'' if row.exact else '~'}{row.count:,} {'kept' if row.exact else 'seen by events only'}",
            "",
        ),
        ("first", f"{age(max(scene.panes.now - row.first_at, 0))} ago", ""),
        ("last", f"{age(max(scene.panes.now - row.last_at, 0))} ago", ""),
        ("queue", row.queue or "-", ""),
        ("workers", where(group.workers if group is not None else {}), ""),
        ("arguments", f"{args} {kwargs}".strip() or "-", ""),
        ("command", f"qctl failed retry '{' '.join(row.filter_words)}'", ""),
    ]
    room = panels.flow(canvas, inner, scene, facts)
    is_wide = room.cells >= 2 * latest.LEAST_LIST
    side = min(58, room.cells // 2) if is_wide and group is not None and group.latest else 0
    left = room._replace(cells=room.cells - side - 2 * bool(side))
    # The last frame tells where it broke, so what does not fit is left out at the top.
    lines = [line for line in shown_lines(trace).splitlines() if line.strip()] or [message or "no traceback"]
    for number, line in enumerate(lines[-room.rows :] if room.rows else ()):
        last = number == min(len(lines), room.rows) - 1
        look = style("failed") if last else style("faint") if line.lstrip().startswith("File ") else ""
        canvas.text(left.x, left.y + number, line, look, left.cells)
    below = left._replace(y=left.y + len(lines), rows=left.rows - len(lines))
    if group is not None and below.rows > LEAST_CHART:
        canvas.text(below.x, below.y, f"failed per second · {scene.words}", style("faint"), below.cells)
        chart = below._replace(y=below.y + 1, rows=below.rows - 1)
        panels.area(canvas, chart, scene, [("failed", "failed")], {"failed": group.per_s}, "/s")
    if group is not None and side:
        beside = room._replace(x=room.x + room.cells - side, cells=side)
        latest.members(canvas, beside, scene, [*reversed(group.latest)])
    before = cause(scene, row)
    kind = row.exc_type.rpartition(".")[2]
    if before is None:
        return f"{row.name} {kind}", "r retries, Enter shows all"
    return f"{row.name} {kind}", f"began {age(row.first_at - before.at)} after: {before.words}"


def cause(scene: Scene, row: FailureRow) -> Change | None:
    """The last change before the first failure, if it came shortly before."""
    found = [c for c in scene.charts.changes if 0 <= row.first_at - c.at <= CAUSE_S]
    return found[-1] if found else None


def _task(canvas: Canvas, inner: Box, scene: Scene, row: TaskSeen) -> tuple[str, str]:
    style, y = scene.panes.style, inner.y
    if pages.phases(row, scene.panes.now) and inner.rows >= 4:
        words = pages.took(row, scene.panes.now)
        room = max(inner.cells - len(words) - 2, 10)
        pages.phase_bar(canvas, Box(inner.x, y, room, 1), scene, row)
        canvas.text(inner.x + room + 2, y, words, "", inner.cells - room - 2)
        y += 1
    facts = [(name, value, "") for name, value in task_facts(row) if name not in ("name", "state", "id")]
    below = panels.flow(canvas, inner._replace(y=y, rows=inner.y + inner.rows - y), scene, facts)
    others = ""
    if row.traceback:
        lines = [line for line in shown_lines(row.traceback).splitlines() if line.strip()]
        for number, line in enumerate(lines[-below.rows :] if below.rows else ()):
            look = style("failed") if number == min(len(lines), below.rows) - 1 else style("faint")
            canvas.text(below.x, below.y + number, line, look, below.cells)
    elif below.rows > 1:
        found = latest.newest(scene.picture, "names", row.name, below.rows)
        found = [one for one in found if one.uuid != row.uuid]
        latest.tasks(canvas, below, scene, found, f"no other {row.name or 'task'} was seen lately", "TASK")
        others = "the newest of its name · "
    word = state_styles.look(row.state).word
    known = scene.charts.types.get(row.name)
    times = None if known is None else quantiles(known.run.within(scene.range_number, scene.picture.at))
    usual = "" if times is None else f" · others run p50 {short_age(times[0])} p95 {short_age(times[1])}"
    return f"{row.name or '?'} {row.uuid}", f"{others}{word}{usual}"


def _type(canvas: Canvas, inner: Box, scene: Scene, row: TypeRow) -> tuple[str, str]:
    one = scene.charts.types.get(row.name)
    if one is not None:
        half = inner.cells // 2
        done = Box(inner.x, inner.y, half - 2, inner.rows)
        lines = [("done", "done"), ("failed", "failed")]
        panels.area(canvas, done, scene, lines, {"done": one.done, "failed": one.failed_per_s}, "/s")
        busy = Box(inner.x + half, inner.y, inner.cells - half, inner.rows)
        panels.area(canvas, busy, scene, [("busy", "running")], {"busy": one.busy}, "")
    return row.name, f"done and failed per second; slots kept busy · {scene.words} · Enter: its tasks"


def _episode(canvas: Canvas, inner: Box, scene: Scene, row: Episode) -> tuple[str, str]:
    now = scene.panes.now
    older = ", before the dashboard was opened" if row.is_older else ""
    facts = [
        ("what", row.what, scene.panes.style(row.word)),
        ("where", row.where or "the fleet", ""),
        ("since", f"{stamp(row.since)}, {lasted(row, now)} ago{older}", ""),
        ("began", row.cause or "after no change that was seen", ""),
        ("ended", "-" if row.ended_at is None else stamp(row.ended_at), ""),
        ("acknowledged", "no" if row.acknowledged is None else "yes, until it changes", ""),
    ]
    panels.facts(canvas, inner, scene, facts)
    return row.where or "the fleet", "Enter: its row · a acknowledges it"


def _event(canvas: Canvas, inner: Box, scene: Scene, row: EventRow) -> tuple[str, str]:
    sheet = sheet_of(row)
    if sheet is None:
        return "", ""
    heading, facts = sheet.heading, [(name, value, "") for name, value in sheet.tabs[0].facts]
    room = panels.flow(canvas, inner, scene, facts)
    uuid = str(row.event.get("uuid") or "")
    task = latest.task_of(scene.picture, uuid) if uuid else None
    if task is not None and room.rows:
        _task(canvas, room, scene, task)
        heading = f"{sheet.heading} · its task: {state_styles.look(task.state).word}"
    return heading, time.strftime("%H:%M:%S", time.localtime(row.event["timestamp"]))
