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
from qctl.dashboard.views.cells import CellFormatter
from qctl.dashboard.widgets.virtual_table import Field, Part
from qctl.fleet import schedules
from qctl.output.secrets import hide
from qctl.output.text import age, count, cut, pad, shown
from qctl.output.writer import to_json

FIELDS = (
    Field("NAME", 13, 0, grows=True, order="name"),
    Field("SCHEDULE", 22, 0, grows=True, order="schedule"),
    Field("STATUS", 8, 0, order="status"),
    Field("NEXT IN", 7, 0, right=True, order="next_at"),
    Field("LAST", 7, 1, right=True, order="last_at"),
    Field("LATE", 6, 2, right=True, order="late_s"),
    Field("RUNS", 7, 4, right=True, order="runs"),
    Field("MISSED", 6, 0, right=True, order="missed"),
    Field("OVERLAP", 7, 5, right=True, order="overlapped"),
    Field("RESULT", 10, 3),
    Field("TASK", 20, 6, grows=True, order="task"),
)
NOT_READ = "the schedule has not been read yet"
EMPTY = (
    "there is no schedule entry\n"
    "`qctl -A proj beat` declares those of a project\n"
    "`qctl schedule add NAME TASK SCHEDULE` adds one"
)
#: an instant that is published later than this is marked, seconds
LATE_S = 5.0
#: cells of the names beside the time line
NAMES = 16
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
        words = [unknown] * (len(FIELDS) - 3)
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
        Part(item["task"]),
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


def timeline(
    panes: CellFormatter, rows: Sequence[ScheduleRow], selected: str, width: int, columns: int
) -> list[list[Part]]:
    """The axis, and a line for each row, with a mark in the column of each instant. Columns stand on
    absolute time: they move when one is over, all together."""
    step_s = SPAN_S / columns
    begin = panes.store_now // step_s * step_s
    edge = "|" if panes.plain else "┊"
    quarters = {
        int((at - begin) / step_s): at
        for at in (begin // QUARTER_S * QUARTER_S + QUARTER_S * number for number in range(5))
        if begin <= at < begin + SPAN_S
    }
    faint, bold = panes.style("faint"), "bold"
    axis = [" "] * columns
    _write(axis, 0, "now")
    for column, at in quarters.items():
        _write(axis, column, time.strftime("%H:%M", time.localtime(at)))
    lines = [[Part(pad("NEXT HOUR", NAMES), bold), Part("".join(axis), faint)]]
    for row in rows:
        lane = [edge if column in quarters else " " for column in range(columns)]
        is_paused = row.status == schedules.PAUSED
        mark = ("o" if is_paused else "*") if panes.plain else ("○" if is_paused else "●")
        marked = False
        for at in row.upcoming:
            column = int((at - begin) / step_s)
            if 0 <= column < columns:
                lane[column], marked = mark, True
        if not marked and row.status in NOT_COMPUTED:
            _write(lane, 1, NOT_COMPUTED[row.status])
        style = faint if is_paused or not marked else panes.style("reserved")
        head = pad(cut(shown(row.name), NAMES - 1), NAMES)
        lines.append([Part(head, bold if row.name == selected else ""), *_styled(lane, edge, style, faint)])
    return lines


def _write(cells_: list[str], column: int, text: str) -> None:
    """Put a text into a line of cells, if it fits there and covers no other text."""
    room = slice(column, column + len(text))
    if column + len(text) <= len(cells_) and not any(c.isalnum() for c in cells_[room]):
        cells_[room] = text


def _styled(lane: Sequence[str], edge: str, style: str, faint: str) -> list[Part]:
    """The cells of a line as parts: those of the axis are faint."""
    parts: list[Part] = []
    for char in lane:
        own = faint if char in (edge, " ") else style
        if parts and parts[-1].style == own:
            parts[-1] = Part(parts[-1].text + char, own)
        else:
            parts.append(Part(char, own))
    return parts


# --- the selected entry


def about(
    panes: CellFormatter, row: ScheduleRow, board: ScheduleBoard, width: int, lines: int
) -> list[list[Part]]:
    """The selected entry in so many lines: what it is, its policies, what became of its last instants."""
    rule = "-" if panes.plain else "─"
    head = [Part(f"{rule * 2} {shown(row.name)} ".ljust(width, rule), panes.style("faint"))]
    if row.item is None:
        text = f"not published: {row.problem}" if row.problem else "…"
        return [head, [Part(f" {shown(text)}", panes.style("failed"))]]
    item, found = row.item, [head]
    zone = (
        ""
        if item["spec"].get("kind") == "interval" or item["timezone"] in item["schedule"]
        else item["timezone"]
    )
    when = [item["schedule"], zone, _called(row), _to(row)]
    found.append([Part(" " + shown("  ".join(filter(None, when))))])
    if item["problem"]:
        found.append([Part(f" not published: {shown(item['problem'])}", panes.style("failed"))])
    else:
        found.append([Part(" " + shown(_policies(row)))])
    history = board.history.get(row.name)
    found.append(_last(panes, history, width))
    for record in (history or ())[: max(0, lines - len(found))]:
        found.append(_record(panes, record))
    return found[:lines]


def _called(row: ScheduleRow) -> str:
    """The task with its arguments."""
    item = row.item or {}
    args = [to_json(hide(value)) for value in item["args"]]
    args += [f"{name}={to_json(hide(value, name))}" for name, value in item["kwargs"].items()]
    return f"{item['task']}({', '.join(args)})"


def _to(row: ScheduleRow) -> str:
    queue = (row.item or {})["queue"]
    return f"queue {queue}" if queue else ""


def _policies(row: ScheduleRow) -> str:
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
    parts = [made, f"missed: {item['missed_policy']}", f"overlap: {item['overlap_policy']}"]
    parts += [f"daylight saving: {item['dst_policy']}"] if item["dst_policy"] != "auto" else []
    for field, text in (("jitter_s", "jitter up to {}"), ("deadline_s", "not later than {}")):
        parts += [text.format(age(item[field]))] if item[field] else []
    parts += [f"from {item['starts_at']}"] if item["starts_at"] else []
    parts += [f"until {item['ends_at']}"] if item["ends_at"] else []
    parts += [item["note"]] if item["note"] else []
    return "  ".join(parts)


def _last(panes: CellFormatter, history: Sequence[HistoryRecord] | None, width: int) -> list[Part]:
    """The outcomes of the last instants, the newest at the right."""
    if history is None:
        return [Part(" last instants …", panes.style("faint"))]
    if not history:
        return [Part(" it was not due yet")]
    newest = list(history[: max(1, width - 30)])
    parts = [Part(f" last {len(newest)} decisions ")]
    for record in reversed(newest):
        glyph, plain, state = OUTCOMES.get(record.outcome, ("?", "?", ""))
        parts.append(Part(plain if panes.plain else glyph, panes.style(state) if state else ""))
    return parts


def _record(panes: CellFormatter, record: HistoryRecord) -> list[Part]:
    """One decision of the history."""
    at = time.strftime("%m-%d %H:%M:%S", time.localtime(record.instant_us / 1e6))
    what = record.outcome if record.count == 1 else f"{record.outcome} ({record.count:,})"
    late = f"{age((record.at_us - record.instant_us) / 1e6)} late" if record.outcome == "sent" else ""
    state = OUTCOMES.get(record.outcome, ("", "", ""))[2]
    rest = "  ".join(filter(None, (record.task_id, f"by {record.by}" if record.by else "")))
    return [
        Part(f"   {at}  "),
        Part(pad(shown(what), 16), panes.style(state) if state else ""),
        Part(f"{late:<12}  {shown(rest)}"),
    ]
