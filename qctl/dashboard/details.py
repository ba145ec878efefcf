"""Everything known of one row of a table, as names and values for a page of its own.

In:  a row of a Snapshot.  Out: (name, value) pairs, and the command line that shows the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qcore.events.table import TaskSeen
from qctl import theme
from qctl.dashboard.snapshot import EventRow, FailureRow, QueueRow, WorkerRow
from qctl.output.secrets import hide
from qctl.output.text import age, stamp
from qctl.output.writer import to_json

Facts = list[tuple[str, str]]


def task_details(row: TaskSeen) -> list[tuple[str, str]]:
    """Everything known of a task, in the order of its life."""
    facts = [
        ("id", row.uuid),
        ("name", row.name or "?"),
        ("state", f"{theme.look(row.state).glyph} {theme.look(row.state).word} ({row.state})"),
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
        ("traceback", row.traceback),
        ("", ""),
        ("command", f"qctl result {row.uuid}"),
    ]
    return [(k, v) for k, v in facts if v or not k]


def worker_details(row: WorkerRow) -> list[tuple[str, str]]:
    """Everything known of a worker."""
    facts = [
        ("worker", row.node),
        ("state", f"{theme.look(row.state).glyph} {theme.look(row.state).word}"),
        ("last seen", "now" if not row.age_s else f"{age(row.age_s)} ago"),
        ("software", row.software),
        ("process", _number(row.pid)),
        ("running", f"{_number(row.running)} of {_number(row.slots)} slots"),
        ("done", _number(row.done)),
        ("queues", ", ".join(row.queues)),
        ("lost events", str(row.missed) if row.missed else ""),
    ]
    flat = _flat(hide({k: v for k, v in row.stats.items() if k not in ("running", "queues")}))
    command = [("", ""), ("command", f"qctl inspect stats -d {row.node}")]
    return [(k, v) for k, v in facts if v] + [("", ""), *flat, *command]


def queue_details(row: QueueRow) -> list[tuple[str, str]]:
    """Everything known of a queue."""
    return [
        ("queue", row.name),
        ("ready", f"{row.ready:,}"),
        ("in flight", _number(row.in_flight)),
        ("delayed", _number(row.delayed)),
        ("workers", f"{row.consumers} take from it"),
        ("paused", "yes: workers take no more from it" if row.paused else "no"),
        ("", ""),
        ("commands", f"qctl queue peek {row.name}"),
        ("", f"qctl queue {'resume' if row.paused else 'pause'} {row.name}"),
    ]


def failure_details(row: FailureRow) -> list[tuple[str, str]]:
    """A group of failures, and its newest task in full."""
    facts = [
        ("task", row.name),
        ("exception", row.exc_type),
        ("how many", f"{row.count:,}"),
        ("first", stamp(row.first_at)),
        ("last", stamp(row.last_at)),
        ("queue", row.queue),
    ]
    newest = row.sample
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
    words = " ".join(row.filter_words)
    return [(k, v) for k, v in facts if v or not k] + [("", ""), ("command", f"qctl failed retry '{words}'")]


def event_details(row: EventRow) -> list[tuple[str, str]]:
    """Every field of an event."""
    hidden = hide(dict(row.event))
    return [(str(k), v if isinstance(v, str) else to_json(v)) for k, v in hidden.items()]


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _flat(value: dict[str, object], head: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
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


PAGES: tuple[tuple[type, Callable[[Any], str], Callable[[Any], Facts]], ...] = (
    (WorkerRow, lambda w: f"Worker {w.node}", worker_details),
    (TaskSeen, lambda t: f"Task {t.name or t.uuid}", task_details),
    (QueueRow, lambda q: f"Queue {q.name}", queue_details),
    (FailureRow, lambda f: f"Failures of {f.name}", failure_details),
    (EventRow, lambda e: f"Event {e.event['type']}", event_details),
)


def page_of(row: Any) -> tuple[str, Facts] | None:
    """The heading and the facts of a row; None: it has no page."""
    for kind, heading, facts in PAGES:
        if isinstance(row, kind):
            return heading(row), facts(row)
    return None
