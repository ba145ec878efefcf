"""The read commands of `qctl task`: ls, show, timeline, logs, tree, record."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand
from qctl.cli.session import Session, current
from qctl.cli.types import OneOf, Span
from qctl.commands.task.history import History, path_for
from qctl.filters import parse
from qctl.fleet import live_tasks
from qctl.fleet.task_tree import draw
from qctl.output.secrets import hide
from qctl.output.table import Cell, Column
from qctl.output.text import age, count, stamp

COLUMNS = [
    Column("ID"),
    Column("STATE"),
    Column("NAME"),
    Column("QUEUE"),
    Column("WORKER"),
    Column("AT", field="at"),
    Column("DUE AT", field="due_at", wide=True),
    Column("RAN", True, field="runtime_s"),
    Column("ARGS"),
]
TIMES = ("sent_at", "received_at", "started_at", "ended_at")
#: a running recorder updates its time every second
STALE_S = 10.0
#: at most this number of tasks of a workflow is drawn
FAMILY = 20_000
LIVE, HISTORY, BOTH = "live", "history", "all"


def _history(session: Session) -> History | None:
    path = path_for(session.broker.place)
    return History(path) if path.exists() else None


def _search(
    session: Session, words: tuple[str, ...], where: str, limit: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Records that match, newest first; and remarks on how they were found."""
    wanted = parse(" ".join(words))
    found: dict[str, dict[str, Any]] = {}
    remarks: list[str] = []
    if where != LIVE:
        past = _history(session)
        if past is not None:
            old, looked = past.search(wanted, limit)
            found = {r["id"]: r for r in old}
            remarks.append(f"{looked:,} of {len(past):,} in the history searched")
            remarks += _gaps(past, wanted.hints.since)
            past.close()
        elif where == HISTORY:
            raise exit_codes.CommandError(
                exit_codes.NOT_FOUND, "there is no history of this broker", "`qctl task record` keeps one"
            )
    if where != HISTORY:
        now, more = live_tasks.gather(session, wanted)
        remarks += more
        for task_id, record in now.items():
            merged = {**found.get(task_id, {}), **{k: v for k, v in record.items() if v is not None}}
            if wanted.matches(merged):
                found[task_id] = merged
            else:
                found.pop(task_id, None)  # it changed after the history was written
    records = sorted(found.values(), key=lambda r: r.get("at") or time.time(), reverse=True)
    return records[:limit], remarks


def _gaps(past: History, since: float | None) -> list[str]:
    """Remarks on the periods that the history does not cover."""
    gaps, recorded_until = past.gaps(since), past.recorded_until
    found = []
    if gaps:
        lost_s = sum(gap.until - gap.since for gap in gaps)
        last = f"the last {stamp(gaps[-1].since, False)} to {stamp(gaps[-1].until, False)}"
        found.append(f"{count(len(gaps), 'gap')} of {age(lost_s)} in it, {last}: {gaps[-1].why}")
    if recorded_until is not None and time.time() - recorded_until > STALE_S:
        found.append(f"nothing was recorded since {stamp(recorded_until, False)}")
    return found


def _item(record: dict[str, Any]) -> dict[str, Any]:
    keys = ("id", "name", "state", "queue", "worker", "exc", "args", "kwargs", "result", "runtime_s", "tries")
    item = {key: record.get(key) for key in keys}
    item |= {key: stamp(record[key]) if record.get(key) else None for key in (*TIMES, "due_at", "at")}
    item |= {"root_id": record.get("root_id"), "parent_id": record.get("parent_id")}
    expires_at = record.get("expires_at")
    return {**item, "expires_at": stamp(expires_at) if expires_at else None}


def _list(words: tuple[str, ...], where: str, most: int) -> int:
    session = current()
    records, remarks = _search(session, words, where, most)
    rows: list[list[str | Cell]] = [
        [
            r["id"],
            r.get("state") or "-",
            r.get("name") or "-",
            r.get("queue") or "-",
            r.get("worker") or "-",
            *(stamp(r[key], False) if r.get(key) else "-" for key in ("at", "due_at")),
            age(r["runtime_s"]) if r.get("runtime_s") else "-",
            _short(r.get("args"), r.get("kwargs")),
        ]
        for r in records
    ]
    session.out.items("task", [_item(r) for r in records], COLUMNS, rows, "id")
    more = f", and perhaps more (--most {most})" if len(records) == most else ""
    session.out.note("; ".join([f"{count(len(records), 'task')}{more}", *remarks]))
    return exit_codes.OK


def _short(args: Any, kwargs: Any) -> str:
    return " ".join(text for v in (args, kwargs) if v and (text := _text(v)) != "{}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def one(session: Session, task_id: str) -> tuple[dict[str, Any], list[str]]:
    """The merged record of a task, and its sources. Raises CommandError when no source has it."""
    sources = []
    record: dict[str, Any] = {}
    past = _history(session)
    if past is not None:
        record = past.get(task_id) or {}
        sources += ["history"] if record else []
        past.close()
    now, remarks = live_tasks.find(session, task_id)
    for source, facts in now:
        record = {**record, **{k: v for k, v in facts.items() if v is not None}}
        sources.append(source)
    if session.app.results.keeps:
        (meta,) = session.app.results.get([task_id])
        if meta is not None:
            from qctl.filters.fields import state_named

            record.setdefault("id", task_id)
            if meta.is_ready or not now:  # a worker's state is newer than a missing result
                record["state"] = state_named(meta.status) or meta.status.lower()
            record["result" if meta.status == "SUCCESS" else "error"] = meta.result
            record["traceback"] = meta.traceback or record.get("traceback")
            record["ended_at"] = record.get("ended_at") or _epoch(meta.date_done)
            record["name"] = record.get("name") or meta.name
            sources.append("result store")
    for remark in remarks:
        session.out.warn(remark)
    if not record:
        raise exit_codes.CommandError(
            exit_codes.NOT_FOUND,
            f"no source knows a task '{task_id}'",
            "its result may have expired; `qctl task record` keeps a history",
        )
    return record, sources


def _epoch(text: str | None) -> float | None:
    from qcore.base.times import epoch

    try:
        return epoch(text) if text else None
    except ValueError:
        return None


def _show(task_id: str, only_args: bool) -> None:
    session = current()
    record, sources = one(session, task_id)
    out = session.out
    fields = {**_item(record), "error": record.get("error"), "traceback": record.get("traceback")}
    # A message past its time stays in its queue until a worker takes it and drops it.
    if record.get("state") in ("queued", "delayed") and (expires_at := record.get("expires_at")):
        fields["expired"] = expires_at <= time.time()
    if only_args:
        fields = {"id": task_id, "args": record.get("args"), "kwargs": record.get("kwargs")}
    if not out.for_people:
        out.document("task.show", hide({**fields, "sources": sources}))
        return
    for name, value in hide(fields).items():
        if value not in (None, ""):
            head, *rest = _text(value).split("\n")
            out.text(f"{name:<12} {head}")
            for line in rest:
                out.text(f"{'':<12} {line}")
    out.note(f"known to: {', '.join(sources)}")


def _timeline(task_id: str) -> None:
    session = current()
    record, _ = one(session, task_id)
    happened: set[tuple[float, int, str, str]] = set()
    for order, key in enumerate(TIMES):
        if (at := record.get(key)) is not None:
            what = key.removesuffix("_at")
            what = record.get("state") or what if what == "ended" else what
            happened.add((at, order, what, "" if what == "sent" else record.get("worker") or ""))
    past = _history(session)
    if past is not None:
        order_of = {"received": 1, "started": 2, "retried": 3}
        happened.update((s.at, order_of.get(s.what, 3), s.what, s.worker) for s in past.steps(task_id))
        past.close()
    items: list[dict[str, Any]] = []
    before: float | None = None
    for at, _order, what, worker in sorted(happened):
        gap = None if before is None else round((at - before) * 1000, 3)
        items.append({"what": what, "at": stamp(at), "after_ms": gap, "worker": worker or None})
        before = at
    rows = [
        [
            i["what"],
            i["at"],
            "-" if i["after_ms"] is None else f"{i['after_ms']:,.1f} ms",
            i["worker"] or "-",
        ]
        for i in items
    ]
    columns = [Column("WHAT"), Column("AT"), Column("AFTER", True, field="after_ms"), Column("WORKER")]
    session.out.items("task.timeline", items, columns, rows, "what")
    if not items:
        session.out.note("no times are known; `qctl task record` keeps them, with task events on")


def _tree(task_id: str) -> None:
    session = current()
    past = _history(session)
    if past is None:
        raise exit_codes.CommandError(
            exit_codes.NOT_FOUND, "there is no history of this broker", "`qctl task record` keeps one"
        )
    record = past.get(task_id)
    if record is None:
        raise exit_codes.CommandError(exit_codes.NOT_FOUND, f"the history knows no task '{task_id}'")
    family = past.family(record.get("root_id") or task_id, FAMILY)
    past.close()
    if len(family) == FAMILY:
        session.out.warn(f"only the first {FAMILY:,} tasks of the workflow are shown")
    draw(session, family)


def _logs(task_id: str, follow: bool) -> int:
    from qctl.commands.task.logs import logs

    return logs(task_id, follow, one)


def _record(keep: float, most: int, duration: float | None) -> int:
    from qctl.commands.task.record import record

    return record(current(), keep, most, duration)


def add_to(group: click.Group) -> None:
    """Add these commands to `qctl task`."""
    for page in _pages():
        group.add_command(page)


def _pages() -> list[CliCommand]:
    task_id = click.Argument(["task_id"], metavar="ID")
    return [
        CliCommand(
            "ls",
            callback=_list,
            lists=True,
            params=[
                click.Argument(["words"], metavar="[FILTER]...", nargs=-1),
                click.Option(
                    ["--from", "where"],
                    type=OneOf("place", (LIVE, HISTORY, BOTH)),
                    default=BOTH,
                    help=(
                        "live: workers, queues, failed tasks; history: recorded "
                        "by `task record`. [default: all]"
                    ),
                ),
                click.Option(
                    ["--most"], type=click.IntRange(1), default=200, help="At most this many. [default: 200]"
                ),
            ],
            help="""List tasks of workers, queues, the store of failed tasks, and the history.

            FILTER is described by `qctl help filters`. Parts that were not searched are named on stderr.""",
            examples=[
                ("qctl task ls state:running 'runtime>1m'", "tasks that have run for over a minute"),
                ("qctl task ls 'kwargs.client_id=1234 state:failed since:24h -name:*.noisy'", "one client's"),
            ],
            see_also=["task show", "failed ls", "help filters"],
        ),
        CliCommand(
            "show",
            callback=_show,
            params=[
                task_id,
                click.Option(
                    ["--args", "only_args"], is_flag=True, help="Print only its arguments, in full."
                ),
            ],
            help="Print all known facts about a task, and their sources.",
            examples=[("qctl task show 2f9c1e0a-… -o json", "for scripts")],
            exit_codes={exit_codes.NOT_FOUND: "the task is unknown"},
            see_also=["task timeline", "result"],
        ),
        CliCommand(
            "timeline",
            callback=_timeline,
            lists=True,
            params=[task_id],
            help="""Print when a task was sent, received, started, retried and ended.

            The times between these are shown too. Earlier attempts are in the history only.""",
            examples=[("qctl task timeline 2f9c1e0a-…", "times of its steps")],
            exit_codes={exit_codes.NOT_FOUND: "the task is unknown"},
            see_also=["task show"],
        ),
        CliCommand(
            "logs",
            callback=_logs,
            watches=False,
            params=[
                task_id,
                click.Option(
                    ["-f", "--follow"], is_flag=True, help="Follow until the task has ended, or Ctrl-C."
                ),
            ],
            help="""Print the log and the output of a task.

            qcore workers store the newest lines of a task for a day (task_log_lines), of the levels that
            their -l includes.""",
            examples=[("qctl task logs 2f9c1e0a-… -f", "follow its log")],
            exit_codes={exit_codes.NOT_FOUND: "the task is unknown"},
            see_also=["task show", "task timeline"],
        ),
        CliCommand(
            "tree",
            callback=_tree,
            params=[task_id],
            help="""Draw the workflow that a task belongs to, from the history.

            Each task with its state and run time; * marks the critical path.""",
            examples=[("qctl task tree 2f9c1e0a-…", "chains, groups and chords")],
            exit_codes={exit_codes.NOT_FOUND: "there is no history, or it does not know the task"},
            see_also=["task record"],
        ),
        CliCommand(
            "record",
            callback=_record,
            watches=False,
            params=[
                click.Option(
                    ["--keep"], type=Span(), default=604_800.0, help="Time to keep tasks. [default: 7d]"
                ),
                click.Option(
                    ["--most"],
                    type=click.IntRange(1000),
                    default=1_000_000,
                    help="Number of tasks to keep; failed ones are deleted last. [default: 1000000]",
                ),
                click.Option(["--for", "duration"], type=Span(), help="End after this time."),
            ],
            help="""Keep a history of tasks in a file, from their events, until Ctrl-C.

            Workers send task events when started with -E, or after `qctl control enable_events`. There is
            one file for each broker, in the user's state directory.""",
            examples=[("qctl task record --keep 30d", "in its own terminal, or as a service")],
            see_also=["task ls", "events --record"],
        ),
    ]
