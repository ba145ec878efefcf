"""The details of a row, as tabs of a page.

In:  a row of a Snapshot.  Out: a Sheet. A tab has names and values, or a text, or the words of a command
whose output it shows: data that the dashboard does not keep is fetched when the tab is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from qcore.events.store.table import TaskSeen
from qcore.schedules.specs import text_of
from qctl.dashboard.state.schedules import ScheduleRow
from qctl.dashboard.state.snapshot import EventRow, FailureRow, QueueRow, WorkerRow
from qctl.dashboard.views.overview_lists import Link
from qctl.fleet.event_record import record_of
from qctl.output import state_styles
from qctl.output.secrets import hide
from qctl.output.text import age, stamp
from qctl.output.writer import to_json

Facts = list[tuple[str, str]]


class Tab(NamedTuple):
    """One tab: facts, or a text, or a command whose output it shows."""

    name: str
    facts: Sequence[tuple[str, str]] = ()
    text: str = ""
    words: tuple[str, ...] = ()
    line: str = ""  # the command line as it is shown; empty: `qctl` and the words


class Sheet(NamedTuple):
    """A page: its heading, its tabs, and the equivalent command line."""

    heading: str
    tabs: tuple[Tab, ...]
    words: tuple[str, ...] = ()
    row: Any = (
        None  # what it is about; views/pages.py shows it as panels instead of the facts of the first tab
    )

    def number_of(self, name: str) -> int | None:
        """The number of the tab with this name; None: there is none."""
        return next((number for number, tab in enumerate(self.tabs) if tab.name == name), None)


def task_facts(row: TaskSeen) -> Facts:
    """The facts about a task, in the order of its life."""
    facts = [
        ("id", row.uuid),
        ("name", row.name or "?"),
        ("state", f"{state_styles.look(row.state).word} ({row.state})"),
        ("worker", row.worker),
        ("queue", row.queue),
        ("arguments", row.args),
        ("keywords", row.kwargs),
        ("sent", _time(row.sent)),
        ("received", _since(row.received, row.sent)),
        ("started", _since(row.started, row.received)),
        ("ended", _since(row.ended, row.started)),
        ("runtime", "" if row.runtime is None else f"{row.runtime:.3f} s"),
        ("retries", str(row.retries) if row.retries else ""),
        ("eta", row.eta),
        ("expires", row.expires),
        ("parent", row.parent_id),
        ("root", row.root_id if row.root_id != row.uuid else ""),
        ("result", row.result),
        ("exception", row.exception),
    ]
    return _known(facts)


def task_sheet(row: TaskSeen) -> Sheet:
    trace = [("traceback", row.traceback)] if row.traceback else []
    return Sheet(
        f"Task {row.name or row.uuid}",
        (
            Tab("Summary", task_facts(row) + trace),
            Tab("Payload", words=("task", "show", row.uuid, "--args", "-o", "yaml")),
            *([Tab("Traceback", text=row.traceback)] if row.traceback else []),
            Tab("Timeline", text=timeline(row)),
            Tab("Tree", words=("task", "tree", row.root_id or row.uuid)),
            Tab("Log", words=("task", "logs", row.uuid)),
            Tab("Raw", text=_json(record_of(row))),
            Tab("Why", words=("task", "why", row.uuid)),
            Tab("Stack", words=("task", "stack", row.uuid)),
        ),
        ("task", "show", row.uuid),
    )


def timeline(row: TaskSeen) -> str:
    """The steps of a task's last attempt, with the time between them in milliseconds and as bars."""
    end = state_styles.look(row.state).word if row.ended else ""
    steps = [("sent", row.sent), ("received", row.received), ("started", row.started), (end, row.ended)]
    known = [(what, at) for what, at in steps if at is not None]
    if not known:
        return "no event with a time was seen"
    whole = max(known[-1][1] - known[0][1], 1e-9)
    lines, before = [], known[0][1]
    for what, at in known:
        gap = at - before
        bar = "#" * round(gap / whole * 30)
        lines.append(
            f"{stamp(at)}  {what:<10}  {'+' if gap >= 0 else ''}{gap * 1000:,.1f} ms  {bar}".rstrip()
        )
        before = at
    if row.retries:
        lines.append(f"\ntried {row.retries + 1} times; `qctl task timeline {row.uuid}` has all tries")
    return "\n".join(lines)


def worker_sheet(row: WorkerRow) -> Sheet:
    facts = [
        ("worker", row.node),
        ("state", "draining: claims no more tasks" if row.draining else state_styles.look(row.state).word),
        ("last seen", "now" if not row.age_s else f"{age(row.age_s)} ago"),
        ("software", row.software),
        ("process", _number(row.pid)),
        ("running", f"{_number(row.running)} of {_number(row.slots)} slots"),
        ("done", _number(row.done)),
        ("queues", ", ".join(row.queues)),
        ("rate", "" if row.per_s is None else f"{row.per_s:,.1f} tasks/s started"),
        ("failed", f"{row.failed:,} seen" if row.failed else ""),
        ("memory", "" if row.memory is None else f"{row.memory / 2**20:.0f} MiB at most, its main process"),
        ("up for", "" if row.uptime_s is None else age(row.uptime_s)),
        ("clock", f"{row.clock} of ours" if row.clock else ""),
        ("events", "off: `e` turns them on" if row.task_events is False else ""),
        ("lost events", str(row.missed) if row.missed else ""),
        ("numbers", "exact: reported by the worker" if row.exact else "seen: counted from its events"),
    ]
    flat = _flat(hide({k: v for k, v in row.stats.items() if k not in ("running", "queues")}))
    here = ("-d", row.node)
    return Sheet(
        f"Worker {row.node}",
        (
            Tab("Summary", _known(facts)),
            Tab("Active", words=("inspect", "active", *here)),
            Tab("Reserved", words=("inspect", "reserved", *here)),
            Tab("Stats", flat or [("", "it has not answered")]),
            Tab("Settings", words=("inspect", "conf", *here, "-o", "yaml")),
            Tab("Stack", words=("worker", "stack", row.node)),
        ),
        ("inspect", "stats", *here),
    )


def queue_sheet(row: QueueRow) -> Sheet:
    facts = [
        ("queue", row.name),
        ("ready", f"{row.ready:,}"),
        ("in flight", _number(row.in_flight)),
        ("delayed", _number(row.delayed)),
        ("oldest", "" if row.oldest_s is None else age(row.oldest_s)),
        ("workers", "" if row.consumers is None else f"{row.consumers} consume it"),
        ("paused", _pause(row)),
        ("", ""),
        ("commands", f"qctl queue peek {row.name}"),
        ("", f"qctl queue {'resume' if row.paused else 'pause'} {row.name}"),
    ]
    return Sheet(
        f"Queue {row.name}",
        (
            Tab("Summary", _known(facts)),
            Tab("First", words=("queue", "peek", row.name, "-n", "50")),
            Tab("Names", words=("queue", "peek", row.name, "-n", "1000", "--group-by", "name")),
        ),
        ("queue", "peek", row.name),
    )


def _pause(row: QueueRow) -> str:
    if not row.paused:
        return "no"
    nodes = ", ".join(row.pause_ignored_by)
    return f"yes, and these Celery workers consume it: {nodes}" if nodes else "yes: no worker consumes it"


def failure_sheet(row: FailureRow) -> Sheet:
    facts = [
        ("task", row.name),
        ("exception", row.exc_type),
        ("how many", f"{'' if row.exact else '~'}{row.count:,}"),
        ("stored", "" if row.exact else f"{row.retryable:,}; the others cannot be retried"),
        ("first", stamp(row.first_at)),
        ("last", stamp(row.last_at)),
        ("queue", row.queue),
    ]
    newest, tabs = row.sample, list[Tab]()
    if isinstance(newest, TaskSeen):
        seen = [
            ("", ""),
            ("the newest", newest.uuid),
            *task_facts(newest)[3:],
            ("traceback", newest.traceback),
        ]
        return Sheet(f"Failures of {row.name}", (Tab("Summary", _known([*facts, *seen])),), ("failed", "ls"))
    if newest is not None:
        facts += [
            ("", ""),
            ("the newest", newest.task_id),
            ("worker", newest.worker),
            ("message", newest.exc_message),
            ("arguments", newest.args),
            ("keywords", newest.kwargs),
            ("tries", str(newest.tries)),
            ("traceback", newest.traceback),
        ]
        tabs = [
            Tab("Payload", words=("failed", "show", newest.task_id, "-o", "yaml")),
            Tab("Log", words=("task", "logs", newest.task_id)),
        ]
    words = " ".join(row.filter_words)
    facts += [("", ""), ("command", f"qctl failed retry '{words}'")]
    every = Tab("All", words=("failed", "ls", *row.filter_words, "--limit", "200"))
    return Sheet(
        f"Failures of {row.name}", (Tab("Summary", _known(facts)), every, *tabs), ("failed", "ls", words)
    )


def schedule_sheet(row: ScheduleRow) -> Sheet:
    item = row.item or {}
    facts = [
        ("entry", row.name),
        ("status", row.status),
        ("problem", row.problem or str(item.get("problem") or "")),
        ("due", str(item.get("schedule", ""))),
        ("text", text_of(item["spec"]) if item else ""),
        *(
            (
                name.replace("_", " ").removesuffix(" at"),
                value if isinstance(value, str) else to_json(hide(value, name)),
            )
            for name, value in item.items()
            if name not in ("name", "schedule", "spec", "status", "problem")
            and value not in (None, [], {}, "")
        ),
        ("result", "" if row.result is None else f"{state_styles.look(row.result).word} ({row.result})"),
        ("", ""),
        ("commands", f"qctl schedule {'resume' if row.status == 'paused' else 'pause'} {row.name}"),
        ("", f"qctl schedule run {row.name}"),
        ("", f"qctl schedule edit {row.name} --schedule '…'"),
    ]
    last = item.get("last_task_id")
    return Sheet(
        f"Schedule entry {row.name}",
        (
            Tab("Summary", _known(facts)),
            Tab("History", words=("schedule", "history", row.name, "-c", "50")),
            Tab("Next", words=("schedule", "next", row.name, "-c", "20")),
            *([Tab("Last task", words=("task", "show", last))] if last else []),
        ),
        ("schedule", "show", row.name),
    )


def event_sheet(row: EventRow) -> Sheet:
    """A page with every field of an event."""
    hidden = hide(dict(row.event))
    facts = [(str(k), v if isinstance(v, str) else to_json(v)) for k, v in hidden.items()]
    return Sheet(f"Event {row.event['type']}", (Tab("Fields", facts), Tab("Raw", text=_json(hidden))))


def fact_sheet(row: tuple[str, str]) -> Sheet:
    return Sheet(row[0], (Tab("Value", [row]), Tab("Doctor", words=("doctor",))), ("doctor",))


SHEETS: tuple[tuple[type, Callable[[Any], Sheet]], ...] = (
    (WorkerRow, worker_sheet),
    (TaskSeen, task_sheet),
    (QueueRow, queue_sheet),
    (FailureRow, failure_sheet),
    (ScheduleRow, schedule_sheet),
    (EventRow, event_sheet),
    (tuple, fact_sheet),
)


def sheet_of(row: Any) -> Sheet | None:
    """The page for a row; None if it has none."""
    if isinstance(row, Link):
        row = row.target
    return next((sheet(row)._replace(row=row) for kind, sheet in SHEETS if isinstance(row, kind)), None)


def _known(facts: Facts) -> Facts:
    return [(k, v) for k, v in facts if v or not k]


def _json(value: Any) -> str:
    import json

    return json.dumps(hide(value), indent=2, ensure_ascii=False, default=str)


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _flat(value: dict[str, object], head: str = "") -> Facts:
    rows: Facts = []
    for key, inner in sorted(value.items()):
        if isinstance(inner, dict) and inner:
            rows += _flat(inner, f"{head}{key}.")
        else:
            rows.append((f"{head}{key}", inner if isinstance(inner, str) else to_json(inner)))
    return rows


def _time(epoch_s: float | None) -> str:
    return "" if epoch_s is None else stamp(epoch_s)


def _since(epoch_s: float | None, before: float | None) -> str:
    if epoch_s is None:
        return ""
    return f"{stamp(epoch_s)}" + (f"  (+{epoch_s - before:.3f} s)" if before is not None else "")
