"""The Schedules screen: its table, the next hour below it, and the selected entry.

In:  a ScheduleBoard, or a row of it.  Out: cells, lines of parts.  After this: screens/schedule_panels.py.
What is not known is `?`, what does not exist is `-`; neither is a zero.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence

from qcore.wire.schedule import HistoryRecord
from qctl.dashboard.state.schedules import SPAN_S, ScheduleBoard, ScheduleRow
from qctl.dashboard.views import latest, panels
from qctl.dashboard.views.alerts import figure
from qctl.dashboard.views.cells import CellFormatter
from qctl.dashboard.views.columns import CALL, NOT_READ, SCHEDULE_FIELDS, TASK_FIELDS
from qctl.dashboard.views.panels import Box, Scene, opened
from qctl.dashboard.widgets.canvas import Canvas
from qctl.dashboard.widgets.fields import Field, Part
from qctl.fleet import schedules
from qctl.output.secrets import hide
from qctl.output.text import age, count, cut, pad, shown, width
from qctl.output.writer import to_json

EMPTY = (
    "there is no schedule entry\n"
    "`qctl -A proj beat` declares those of a project\n"
    "`qctl schedule add NAME TASK SCHEDULE` adds one"
)
#: an instant that is published later than this is marked, seconds
LATE_S = 5.0
#: cells of the names beside the time line
NAMES = 16
#: the list of what is due beside the time line, from a width on in which there is room for it
DUE = (
    Field("DUE IN", 6, 0, right=True),
    Field("AT", 8, 0),
    Field("ENTRY", 12, 0, grows=True, middle=True, most=14),
    Field("QUEUE, READY, CALL", 18, 0, grows=2),
)
DUE_CELLS, DUE_FROM = 68, 116  # with 120 cells, a column of the time line has two minutes
#: cells from which the selected entry has its history beside it
SIDE_BY_SIDE = 100
HISTORY = (
    Field("INSTANT", 8, 0),
    Field("OUTCOME", 13, 0),
    Field("LATE", 5, 1, right=True),
    Field("STATE", 10, 0),
    Field("TIME", 6, 0, right=True),
    Field("WORKER", 10, 2, middle=True, grows=1, most=16),
    Field("TASK", 8, 3, grows=2, most=36),
    Field("BY", 10, 4, grows=1, most=14),
    Field("RESULT", 12, 1, grows=2),
)
#: seconds between two marks of the axis
QUARTER_S = 900.0
NOT_COMPUTED = {
    schedules.CODE: "computed by the code of the project",
    schedules.ENDED: "no further instant",
    schedules.BROKEN: "not published: see below",
    "": "…",
}
#: the outcomes of instants (wire/schedule.py): a glyph, its ASCII form, the state whose style it has
OUTCOMES = {
    "sent": ("✓", "+", ""),
    "by hand": ("▶", ">", ""),
    "missed": ("✗", "x", "failed"),
    "overlapped": ("‖", "=", "retrying"),
}


def title(board: ScheduleBoard, matching: int, pattern: str, plain: bool) -> str:
    """What the line above the table says."""
    if not board.asked or board.note:
        return "schedules"
    parts = [f"schedules  {count(board.total, 'entry', 'entries')}"]
    if pattern:
        parts[0] += f"  /{pattern}/ {matching:,}"
    for number, word in ((board.missed, "missed"), (board.paused, "paused"), (board.broken, "broken")):
        parts += [f"{number:,} {word}"] if number else []
    running = board.schedulers
    parts += (
        [f"{running[0]} alive" if len(running) == 1 else f"{len(running)} schedulers alive"]
        if running
        else []
    )
    return (", " if plain else " · ").join(parts)


def alert(board: ScheduleBoard) -> str:
    """What needs a person; empty: nothing."""
    if board.trouble:
        return f"the schedule cannot be read: {board.trouble}"
    if board.asked and board.total and not board.schedulers:
        return "no scheduler is running: nothing is published; `qctl -A proj beat` starts one"
    return ""


def empty(board: ScheduleBoard, width: int) -> str:
    """What an empty table says, in lines of this width."""
    return textwrap.fill(board.note, max(width - 2, 20)) or (EMPTY if board.asked else NOT_READ)


def cells(panes: CellFormatter, row: ScheduleRow) -> list[Part]:
    item = row.item
    if item is None:
        unknown = "?" if row.problem else "…"
        words = [unknown] * (len(SCHEDULE_FIELDS) - 3)
        return [Part(row.name), Part(cut(row.problem, 60) or unknown), _status(panes, row), *map(Part, words)]
    ran = row.time("last_at")
    return [
        Part(f"{row.name} *" if row.edited else row.name),
        Part(item["schedule"]),
        _status(panes, row),
        Part(_next(row, panes.store_now)),
        Part("-" if ran is None else age(panes.store_now - ran)),
        Part(age(item["late_s"]), panes.style("retrying") if (item["late_s"] or 0) > LATE_S else ""),
        Part(f"{item['runs']:,}"),
        Part(f"{item['missed']:,}", panes.style("failed") if item["missed"] else ""),
        Part(f"{item['overlapped']:,}", panes.style("retrying") if item["overlapped"] else ""),
        _result(panes, row),
        Part(_called(row)),
    ]


def _status(panes: CellFormatter, row: ScheduleRow) -> Part:
    if row.status == schedules.PAUSED:
        return panes.paused(True)
    if row.status == schedules.BROKEN:
        return Part(f"{'x' if panes.plain else '✗'} broken", panes.style("failed"))
    return Part(row.status or "…", "" if row.status == schedules.ON else panes.style("faint"))


def _next(row: ScheduleRow, now: float) -> str:
    """In how long it is due; ?: only its project knows."""
    if row.status in (schedules.CODE, schedules.BROKEN):
        return "?"
    due = row.time("next_at")
    return "-" if due is None else age(due - now) if due > now else "now"


def _result(panes: CellFormatter, row: ScheduleRow) -> Part:
    if row.item is None or not row.item["last_task_id"]:
        return Part("-")
    return Part("?") if row.result is None else panes.state(row.result)


# --- the next hour


def columns_of(width: int) -> int:
    """The columns of the time line in a terminal of this width."""
    beside = DUE_CELLS + 2 if width >= DUE_FROM else 0
    return max(12, width - 4 - NAMES - beside)


def hour(scene: Scene, rows: Sequence[ScheduleRow], selected: str, cells: int) -> Canvas:
    """The panel below the list, whose frame it goes on: an axis, and a line for each row with a mark in the
    column of each instant. Columns stand on absolute time: they move when one is over, all together."""
    panes, columns = scene.panes, columns_of(cells)
    canvas = opened(scene, cells, len(rows) + 2)
    step_s = SPAN_S / columns
    begin = panes.store_now // step_s * step_s
    edge = "|" if panes.plain else "┊"
    quarters = {
        int((at - begin) / step_s): at
        for at in (begin // QUARTER_S * QUARTER_S + QUARTER_S * number for number in range(5))
        if begin <= at < begin + SPAN_S
    }
    faint, x = panes.style("faint"), 2 + NAMES
    axis = [" "] * columns
    _write(axis, 0, "now")
    for column, at in quarters.items():
        _write(axis, column, time.strftime("%H:%M", time.localtime(at)))
    canvas.text(x, 1, "".join(axis), faint, columns)
    for y, row in enumerate(rows, 2):
        is_paused = row.status == schedules.PAUSED
        mark = ("o" if is_paused else "*") if panes.plain else ("○" if is_paused else "●")
        known = {int((at - begin) / step_s) for at in row.upcoming}
        marked = [column for column in known if 0 <= column < columns]
        style = faint if is_paused or not marked else panes.style("reserved")
        canvas.text(2, y, cut(shown(row.name), NAMES - 1), "bold" if row.name == selected else "", NAMES - 1)
        for column in quarters:
            canvas.put(x + column, y, edge, faint)
        for column in marked:
            canvas.put(x + column, y, mark, style)
        if not marked and row.status in NOT_COMPUTED:
            canvas.text(x + 1, y, NOT_COMPUTED[row.status], faint, columns - 1)
    if cells >= DUE_FROM:
        _due(canvas, Box(x + columns + 2, 1, DUE_CELLS, len(rows) + 1), scene, rows)
    canvas.title(0, 0, cells, "Next hour", _first_due(scene, rows), "bold", faint)
    return canvas


def _due(canvas: Canvas, box: Box, scene: Scene, rows: Sequence[ScheduleRow]) -> None:
    """The next instant of each entry that is shown, in the order of time, where its task goes, behind how
    many messages, and what it calls; where there is room, also those that follow."""
    now, lines = scene.panes.store_now, []
    ready = {queue.name: queue.ready for queue in scene.picture.queues}
    active = [row for row in rows if row.status != schedules.PAUSED]
    known = [(at, row) for row in active if (at := _first(row))]
    later = sorted(((at, row) for row in active for at in row.upcoming[1:]), key=lambda one: one[0])
    known += later[: max(box.rows - 1 - len(known), 0)]
    for at, row in sorted(known, key=lambda one: one[0]):
        left = age(at - now) if at > now else "now"
        clock = time.strftime("%H:%M:%S", time.localtime(at))
        queue = str((row.item or {}).get("queue") or "")
        goes = f"{queue} {figure(ready.get(queue))} " if queue else ""
        call = Part(goes + _called(row))
        lines.append([Part(left), Part(clock, scene.panes.style("faint")), Part(row.name), call])
    panels.table(canvas, box, scene, DUE, lines)


def _first(row: ScheduleRow) -> float | None:
    """The first instant to come, in the next hour or later; None: unknown."""
    return row.upcoming[0] if row.upcoming else None if row.item is None else row.time("next_at")


def _first_due(scene: Scene, rows: Sequence[ScheduleRow]) -> str:
    """The entry that is due next, of those that are shown; a schedule may have tens of thousands."""
    now = scene.panes.store_now
    due = [(at, row.name) for row in rows for at in row.upcoming[:1] if row.status != schedules.PAUSED]
    where = "" if len(rows) == len(scene.picture.schedules.rows) else " of those shown"
    if not due:
        return f"nothing known is due{where}"
    at, name = min(due)
    return f"next{where}: {name} {f'in {age(at - now)}' if at > now else 'now'}"


def _write(cells_: list[str], column: int, text: str) -> None:
    """Put a text into a line of cells, if it fits there and covers no other text."""
    room = slice(column, column + len(text))
    if column + len(text) <= len(cells_) and not any(c.isalnum() for c in cells_[room]):
        cells_[room] = text


# --- the selected entry


def entry(canvas: Canvas, inner: Box, scene: Scene, row: ScheduleRow) -> tuple[str, str]:
    """The selected entry in a band: what it is, its policies, what became of its last instants, the newest
    first; beside each other where there is room. Returns its title and summary."""
    panes, item = scene.panes, row.item
    history = scene.picture.schedules.history.get(row.name)
    if item is None:
        text = f"not published: {row.problem}" if row.problem else "…"
        canvas.text(inner.x, inner.y, text, panes.style("failed"), inner.cells)
        return row.name, row.status
    wide = inner.cells >= SIDE_BY_SIDE and inner.rows >= 4
    zone = (
        ""
        if item["spec"].get("kind") == "interval" or item["timezone"] in item["schedule"]
        else item["timezone"]
    )
    when = "  ".join(filter(None, (item["schedule"], zone)))
    policies = [("not published", item["problem"])] if item["problem"] else _policies(row)
    late = _late(history or ())
    if wide:
        facts = [("schedule", when), ("task", _called(row)), ("queue", str(item["queue"] or "-"))]
        facts += [*policies, ("by", str(item["last_by"] or "-")), *late]
        bad = panes.style("failed")
        styled = [(name, text, bad if name == "not published" else "") for name, text in facts]
        _decisions(canvas, panels.flow(canvas, inner, scene, styled), scene, row, history)
        late = []
    else:
        queue = f"queue {item['queue']}" if item["queue"] else ""
        canvas.text(inner.x, inner.y, "  ".join(filter(None, (when, _called(row), queue))), "", inner.cells)
        said = "  ".join(text if name == "made" else f"{name}: {text}" for name, text in policies)
        canvas.text(inner.x, inner.y + 1, said, panes.style("failed") if item["problem"] else "", inner.cells)
        lines = [_last(panes, history, inner.cells), *(_record(panes, one) for one in history or ())]
        for line, parts in enumerate(lines[: max(inner.rows - 2, 0)]):
            _write_parts(canvas, inner, inner.y + 2 + line, parts)
    tasks = [latest.task_of(scene.picture, one.task_id) for one in history or () if one.task_id]
    ran = [task.runtime for task in tasks if task is not None and task.runtime is not None]
    spans = [*late, *([("ran", latest.spread(ran))] if ran else [])]
    return row.name, " · ".join([*(f"{name} {text}" for name, text in spans), "Enter opens it"])


def _decisions(
    canvas: Canvas, room: Box, scene: Scene, row: ScheduleRow, history: Sequence[HistoryRecord] | None
) -> None:
    """The last decisions and the instants to come in a line, and below it the decisions in two columns."""
    said = _last(scene.panes, history, room.cells // 2)
    rest = room.cells - sum(width(part.text) for part in said)
    _write_parts(canvas, room, room.y, [*said, *_next_instants(scene.panes, row, rest)])
    tall = max(room.rows - 2, 0)
    lines = [_decision(scene, one) for one in (history or ())[: 2 * tall]]
    fields = [
        field
        if field.grows
        else field._replace(width=max(len(field.name), *(len(line[place].text) for line in lines)))
        for place, field in enumerate(HISTORY if lines else ())
    ]
    left = room._replace(y=room.y + 1, rows=room.rows - 1, cells=(room.cells - 2) // 2)
    right = left._replace(x=room.x + room.cells - left.cells)
    for box, some in ((left, lines[:tall]), (right, lines[tall:])):
        if some:
            panels.table(canvas, box, scene, fields, some)


def _late(history: Sequence[HistoryRecord]) -> list[tuple[str, str]]:
    """How late the last instants were published."""
    late = [(one.at_us - one.instant_us) / 1e6 for one in history if one.outcome == "sent"]
    return [("late", f"{age(max(late))} at most, of {len(late)}")] if late else []


def _write_parts(canvas: Canvas, box: Box, y: int, parts: Sequence[Part]) -> None:
    x = box.x
    for part in parts:
        x = canvas.text(x, y, part.text, part.style, box.x + box.cells - x)


def _next_instants(panes: CellFormatter, row: ScheduleRow, room: int) -> list[Part]:
    """The instants to come, as far as they are computed and fit."""
    head = " · next "
    most = max((room - len(head) + 1) // len("00:00:00 "), 1)
    times = [time.strftime("%H:%M:%S", time.localtime(at)) for at in row.upcoming[:most]]
    due = (row.item or {}).get("next_at")
    return [Part(head, panes.style("faint")), Part(" ".join(times) or str(due or "-"))]


def _decision(scene: Scene, record: HistoryRecord) -> list[Part]:
    """One decision of the history, and what became of the task that it sent, as far as it is remembered."""
    panes = scene.panes
    at, what, style, late_s = _said(panes, record)
    task = latest.task_of(scene.picture, record.task_id) if record.task_id else None
    of = dict(zip((field.name for field in TASK_FIELDS), panes.task(task), strict=True)) if task else {}
    ended = "" if task is None else shown(task.exception or task.result)
    unknown = Part("-" if record.task_id else "")
    return [
        Part(at),
        Part(what, style),
        Part("" if late_s is None else age(late_s)),
        *(of.get(name, unknown) for name in ("STATE", "TIME", "WORKER")),
        Part(record.task_id),
        Part(record.by),
        Part(ended or unknown.text, of[CALL].style if of else ""),
    ]


def _called(row: ScheduleRow) -> str:
    """The task with its arguments."""
    item = row.item or {}
    args = [to_json(hide(value)) for value in item["args"]]
    args += [f"{name}={to_json(hide(value, name))}" for name, value in item["kwargs"].items()]
    return f"{item['task']}({', '.join(args)})"


def _policies(row: ScheduleRow) -> list[tuple[str, str]]:
    """Who made the entry, and what applies to its instants."""
    item = row.item or {}
    by = f" by {item['edited_by']}" if item["edited_by"] else ""
    made = (
        f"added{by}"
        if item["source"] is None
        else f"declared by {item['source'] or 'a project without a name'}"
    )
    if row.edited:
        made += f", {', '.join(item['edited'])} changed{by} (U resets it)"
    parts = [("made", made), ("missed", item["missed_policy"]), ("overlap", item["overlap_policy"])]
    parts += [("daylight saving", item["dst_policy"])] if item["dst_policy"] != "auto" else []
    for field, name in (("jitter_s", "jitter up to"), ("deadline_s", "not later than")):
        parts += [(name, age(item[field]))] if item[field] else []
    others = (("from", "starts_at"), ("until", "ends_at"), ("note", "note"))
    return parts + [(name, str(item[field])) for name, field in others if item[field]]


def _last(panes: CellFormatter, history: Sequence[HistoryRecord] | None, width: int) -> list[Part]:
    """The outcomes of the last instants, the newest at the right."""
    if history is None:
        return [Part("last instants …", panes.style("faint"))]
    if not history:
        return [Part("it was not due yet")]
    newest = list(history[: max(1, width - 30)])
    parts = [Part(f"last {len(newest)} decisions ")]
    for record in reversed(newest):
        glyph, plain, state = OUTCOMES.get(record.outcome, ("?", "?", ""))
        parts.append(Part(plain if panes.plain else glyph, panes.style(state) if state else ""))
    return parts


def _record(panes: CellFormatter, record: HistoryRecord) -> list[Part]:
    """One decision of the history in a line."""
    at, what, style, late_s = _said(panes, record)
    late = "" if late_s is None else f"{age(late_s)} late"
    rest = "  ".join(filter(None, (record.task_id, f"by {record.by}" if record.by else "")))
    return [Part(f"{at}  "), Part(pad(what, 13), style), Part(f"{late:<11}{shown(rest)}")]


def _said(panes: CellFormatter, record: HistoryRecord) -> tuple[str, str, str, float | None]:
    """When a decision was due, its date only if that is not today; its outcome and style; how late it was."""
    when, today = time.localtime(record.instant_us / 1e6), time.localtime(panes.store_now)
    is_today = (when.tm_yday, when.tm_year) == (today.tm_yday, today.tm_year)
    at = time.strftime("%H:%M:%S" if is_today else "%m-%d %H:%M:%S", when)
    what = record.outcome if record.count == 1 else f"{record.outcome} ({record.count:,})"
    state = OUTCOMES.get(record.outcome, ("", "", ""))[2]
    late_s = (record.at_us - record.instant_us) / 1e6 if record.outcome == "sent" else None
    return at, shown(what), panes.style(state) if state else "", late_s
