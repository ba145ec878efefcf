"""`schedule ls`, `schedule show`, `schedule next`, `schedule history`, `schedule explain`."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand
from qctl.cli.session import current
from qctl.cli.types import ScheduleName
from qctl.output.table import Column
from qctl.output.text import age, count, stamp

if TYPE_CHECKING:
    from qcore.app.schedules import Scheduled
    from qctl.fleet.schedules import Due

Found = TypeVar("Found")

COLUMNS = [
    *(Column("NAME"), Column("SCHEDULE"), Column("STATUS"), Column("NEXT", field="next_at")),
    *(Column("LAST", True, "last_at"), Column("LATE", True, "late_s"), Column("RUNS", True)),
    *(Column("MISSED", True), Column("TASK", wide=True), Column("SOURCE", wide=True)),
    Column("OVERLAPPED", True, wide=True),
]
_HISTORY = [
    *(Column("INSTANT", field="instant_at"), Column("OUTCOME"), Column("LATE", True, "late_s")),
    *(Column("TASK ID", field="task_id"), Column("BY", wide=True), Column("COUNT", True, wide=True)),
]
_NEXT = [Column("AT"), Column("LOCAL"), Column("IN", True, "in_s")]
CODES = {exit_codes.NOT_FOUND: "no entry of that name", exit_codes.BAD_CONFIG: "this broker keeps no entries"}


def named(look: Callable[[], Found]) -> Found:
    """The value of `look`, with an unknown name as CommandError (NOT_FOUND)."""
    from qcore.errors import UnknownName

    try:
        return look()
    except UnknownName as exc:
        raise exit_codes.CommandError(exit_codes.NOT_FOUND, str(exc), "see `qctl schedule ls`") from None


def expression(text: str) -> dict[str, Any]:
    """The spec of an expression; raises CommandError with the position of what is wrong."""
    from qcore.errors import BadSchedule
    from qcore.schedules.specs import parse

    try:
        return parse(text)
    except BadSchedule as exc:
        where = f"character {exc.position + 1} of '{text}'" if exc.position is not None else f"'{text}'"
        raise exit_codes.CommandError(exit_codes.USAGE, f"{where}: {exc}") from None


def show(found: Sequence[Scheduled]) -> None:
    """Print entries (app/schedules.py) in the format of `schedule ls`."""
    from qctl.fleet import schedules

    session = current()
    now = session.app.schedules.store.clock()[0]
    known: schedules.Known = {}
    dues = [schedules.due(session.app, one, now, known) for one in found]
    waits = {at: "-" if at is None else f"in {age(at - now)}" for at in {when.next for when in dues}}
    rows = [_row(one, when, waits[when.next], now) for one, when in zip(found, dues, strict=True)]
    session.out.items("schedule", schedules.Items(session.app, found, dues), COLUMNS, rows, "name")
    for one, when in zip(found, dues, strict=True):
        if when.problem:
            session.out.warn(f"{one.entry.name} is not published: {when.problem}")


def _row(found: Scheduled, when: Due, wait: str, now: float) -> list[str]:
    entry, state = found.entry, found.state
    sent = bool(state.last_sent_us)
    return [
        entry.name + (" *" if found.edited else ""),
        when.text,
        when.status,
        wait,
        age(now - state.last_instant_us / 1e6) if sent else "-",
        age(state.late_s) if sent else "-",
        str(state.runs),
        str(state.missed),
        entry.task,
        "by hand" if found.source is None else found.source or "-",
        str(state.overlapped),
    ]


@lru_cache(maxsize=4096)  # many entries have the same next instant
def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _list() -> int:
    from qcore.app.schedules import scheduled
    from qcore.errors import Malformed
    from qctl.fleet import schedules

    gc.disable()  # nothing is garbage yet, and ten thousand entries are many to look at
    session = current()
    found, broken = [], []
    for one in session.app.schedules.store.entries():
        try:
            found.append(scheduled(one))
        except Malformed as exc:
            broken.append(f"{exc}; `qctl schedule rm {one.name}` deletes it")
    show(found)
    for problem in broken:
        session.out.warn(problem)
    running = schedules.schedulers(session.app)
    if not found:
        session.out.note(
            "there is no entry; `qctl -A proj beat` declares those of a project, `schedule add` adds one"
        )
    elif not running:
        session.out.warn("no scheduler is running: nothing is published; `qctl -A proj beat` starts one")
    else:
        session.out.note(f"{count(len(running), 'scheduler')}: {', '.join(one.node for one in running)}")
    if any(one.edited for one in found):
        session.out.note("* overridden; `qctl schedule reset NAME` restores what the code declares")
    gc.enable()
    return exit_codes.PARTIAL if broken else exit_codes.OK


def _show(name: str) -> None:
    from qctl.fleet import schedules

    session = current()
    found = named(lambda: session.app.schedules.get(name))
    when = schedules.due(session.app, found, session.app.schedules.store.clock()[0])
    item = schedules.item(session.app, found, when)
    item["last_state"] = schedules.last_states(session.app, [item]).get(item["last_task_id"] or "")
    if not session.out.for_people:
        session.out.document("schedule.show", item, "name")
        return
    for label, value in _lines(item, session.app.schedules.store.clock()[0]):
        session.out.line(f"{label:<11} {value}")


def _lines(item: dict[str, Any], now: float) -> Iterator[tuple[str, str]]:
    """What `schedule show` prints for people."""
    yield "name", item["name"]
    call = ", ".join([*map(repr, item["args"]), *(f"{k}={v!r}" for k, v in item["kwargs"].items())])
    yield "task", f"{item['task']}({call})"
    yield "schedule", item["schedule"]
    upcoming = f", next in {age(_epoch(item['next_at']) - now)}, {item['next_at']}" if item["next_at"] else ""
    yield "status", item["status"] + upcoming
    if item["last_at"]:
        state = f", {item['last_state']}" if item["last_state"] else ""
        yield "last", f"{item['last_at']}, {age(item['late_s'])} late, by {item['last_by']}"
        yield "last task", f"{item['last_task_id']}{state}"
    yield "counts", f"{item['runs']} runs, {item['missed']} missed, {item['overlapped']} overlapped"
    policies = [f"missed instants: {item['missed_policy']}", f"overlap: {item['overlap_policy']}"]
    policies += [f"daylight saving: {item['dst_policy']}"] if item["dst_policy"] != "auto" else []
    policies += [f"{k}: {age(item[f'{k}_s'])}" for k in ("jitter", "deadline") if item[f"{k}_s"]]
    policies += [f"{k}: {item[f'{k}s_at']}" for k in ("start", "end") if item[f"{k}s_at"]]
    yield "policies", ", ".join(policies)
    if item["options"]:
        yield "options", ", ".join(f"{k}={v!r}" for k, v in item["options"].items())
    yield "source", "added by hand" if item["source"] is None else f"the code of {item['source'] or 'an app'}"
    if item["edited"]:
        yield "overridden", f"{', '.join(item['edited'])}, by {item['edited_by']}"
    if item["note"]:
        yield "note", item["note"]
    if item["problem"]:
        yield "problem", item["problem"]


def _next(name: str, number: int) -> None:
    session = current()
    found = named(lambda: session.app.schedules.get(name))
    times = session.app.schedules.next(name, number)
    if not found.entry.enabled:
        session.out.warn(f"{name} is paused; `qctl schedule resume {name}` publishes it again")
    show_times(times, found.entry.timezone, session.app.schedules.store.clock()[0])
    if not times:
        session.out.note(f"{name} has no further instant")


def show_times(times: Sequence[float], timezone: str, now: float) -> None:
    """Print instants."""
    from qcore.app.schedule_entries import zone_of

    session = current()
    zone = zone_of(timezone or session.app.conf.timezone)
    items: list[dict[str, Any]] = [
        {
            "at": stamp(at),
            "local": datetime.fromtimestamp(at, zone).strftime("%a %Y-%m-%d %H:%M:%S %Z"),
            "in_s": round(at - now, 3),
        }
        for at in times
    ]
    rows = [[item["at"], item["local"], age(item["in_s"])] for item in items]
    session.out.items("schedule.next", items, _NEXT, rows, "at")


def _history(name: str, number: int) -> None:
    session = current()
    found = named(lambda: session.app.schedules.history(name, number))
    items = [
        {
            "instant_at": stamp(one.instant_us / 1e6),
            "outcome": one.outcome,
            "late_s": round((one.at_us - one.instant_us) / 1e6, 3) if one.outcome == "sent" else None,
            "task_id": one.task_id or None,
            "by": one.by or None,
            "count": one.count,
        }
        for one in found
    ]
    rows = [
        [
            stamp(one.instant_us / 1e6, False),
            item["outcome"] if item["count"] == 1 else f"{item['outcome']} ({item['count']})",
            age(item["late_s"]),
            item["task_id"] or "-",
            item["by"] or "-",
            str(item["count"]),
        ]
        for item, one in zip(items, found, strict=True)
    ]
    session.out.items("schedule.history", items, _HISTORY, rows, "instant_at")
    if not items:
        session.out.note(f"{name} was not due yet")


def _explain(words_given: tuple[str, ...], timezone: str | None, number: int) -> None:
    from qcore.app.schedules import following
    from qcore.schedules.words import words
    from qcore.wire.schedule import EntryState, ScheduleEntry

    session = current()
    zone = timezone or session.app.conf.timezone or "UTC"
    entry = ScheduleEntry("", "", expression(" ".join(words_given)), timezone=zone)
    now = time.time()
    times = following(session.app, entry, EntryState(cursor_us=round(now * 1e6)), number, now)
    if session.out.for_people:
        session.out.line(words(entry.spec, zone))
        show_times(times, zone, now)
        return
    fields = {
        "words": words(entry.spec, zone),
        "spec": entry.spec,
        "timezone": zone,
        "next": [stamp(t) for t in times],
    }
    session.out.document("schedule.explain", fields, "words")


_name = click.Argument(["name"], type=ScheduleName())
_number = click.Option(
    ["-c", "--count", "number"], type=click.IntRange(1, 1000), default=10, help="How many."
)

ls_page = CliCommand(
    "ls",
    callback=_list,
    lists=True,
    help="""List the entries of the schedule, with their next instant.

    LAST is the age of the last instant that was published, LATE how late that was. MISSED counts the
    instants that passed while no scheduler could publish them. STATUS is on, paused, ended (no further
    instant), code (the code of the project computes its instants), or broken.""",
    examples=[
        ("qctl schedule ls", "entries and the schedulers that run"),
        ("qctl schedule ls -o json", "for scripts"),
    ],
    exit_codes={
        exit_codes.PARTIAL: "some entries cannot be read",
        exit_codes.BAD_CONFIG: CODES[exit_codes.BAD_CONFIG],
    },
    see_also=["schedule show", "schedule next", "beat"],
)
show_page = CliCommand(
    "show",
    callback=_show,
    params=[_name],
    help="Show all fields of an entry, and the state of its last task.",
    examples=[("qctl schedule show nightly-report", "one entry")],
    exit_codes=CODES,
    see_also=["schedule history", "schedule edit"],
)
next_page = CliCommand(
    "next",
    callback=_next,
    params=[_name, _number],
    lists=True,
    help="List the next instants of an entry, in UTC and in its time zone.",
    examples=[("qctl schedule next nightly-report -c 3", "the next three")],
    exit_codes=CODES,
    see_also=["schedule explain"],
)
history_page = CliCommand(
    "history",
    callback=_history,
    params=[_name, _number],
    lists=True,
    help="""List what became of the last instants of an entry, newest first.

    OUTCOME is sent, missed, overlapped (the last run had not ended), or by hand. The last 50 are kept.""",
    examples=[("qctl schedule history nightly-report", "sent, missed, by whom")],
    exit_codes=CODES,
    see_also=["schedule show", "result"],
)
explain_page = CliCommand(
    "explain",
    callback=_explain,
    params=[
        click.Argument(["words_given"], nargs=-1, required=True, metavar="EXPRESSION"),
        click.Option(["--timezone"], help="Time zone of the expression. [default: the app's, or UTC]"),
        click.Option(
            ["-c", "--count", "number"], type=click.IntRange(0, 1000), default=5, help="How many instants."
        ),
    ],
    help="Say in words when an expression is due, and list its next instants.",
    examples=[
        ("qctl schedule explain '*/5 * * * mon-fri'", "a crontab expression"),
        ("qctl schedule explain every 90s", "an interval"),
    ],
    see_also=["schedule add"],
)
