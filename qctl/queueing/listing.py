"""`queue ls`: what waits where, since when, and who takes it.

In:  counts from the broker, pauses, answers of workers.  Out: one item for each queue.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from qctl import exits
from qctl.output.table import Column
from qctl.output.text import age, count, stamp
from qctl.pages import Page
from qctl.params import WatchOption
from qctl.session import Session, current

if TYPE_CHECKING:
    from qcore.brokers._administration import Pause

ASK_S = 0.3
_COLUMNS = [
    Column("QUEUE"),
    Column("READY", True),
    Column("DELAYED", True),
    Column("IN FLIGHT", True),
    Column("OLDEST", True, "oldest_at"),
    Column("CONSUMERS", True),
]
_CHANGE = Column("CHANGE/S", True, "change_per_s")
_PAUSED = Column("PAUSED")
_LAST = "qctl.queue.ls"


class _Look(NamedTuple):
    """What an earlier look of --watch saw."""

    at: float
    ready: dict[str, int]


def item_of(queue: str) -> dict[str, Any]:
    """One queue, without its consumers."""
    return _items(current(), [queue], None)[0]


def show(items: Sequence[dict[str, Any]]) -> None:
    """Print queues as `queue ls` does."""
    watching = any("change_per_s" in item for item in items)
    columns = [*_COLUMNS, *([_CHANGE] if watching else []), _PAUSED]
    rows = []
    for item in items:
        row = [item["queue"], *[_number(item[k]) for k in ("ready", "delayed", "in_flight")]]
        row += [_since(item["oldest_at"]), _number(item["consumers"])]
        if watching:
            change = item["change_per_s"]
            row.append("-" if change is None else f"{change:+,.1f}")
        rows.append([*row, _words(item)])
    current().out.items("queue", items, columns, rows, "queue")


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _since(at: str | None) -> str:
    return age(None if at is None else time.time() - datetime.fromisoformat(at).timestamp())


def _words(item: dict[str, Any]) -> str:
    if not item["paused"]:
        return ""
    until, by, reason = (item[k] for k in ("paused_until_at", "paused_by", "pause_reason"))
    parts = ["yes", *([f"until {until}"] if until else []), *([f"by {by}"] if by else [])]
    return " ".join(parts) + (f": {reason}" if reason else "")


def _items(session: Session, queues: Sequence[str], consumers: Counter[str] | None) -> list[dict[str, Any]]:
    broker = session.broker
    pauses = {pause.queue: pause for pause in broker.pauses()}
    return [
        {
            "queue": queue,
            "ready": depth.ready,
            "delayed": depth.delayed,
            "in_flight": depth.in_flight,
            "oldest_at": None if depth.oldest_at is None else stamp(depth.oldest_at),
            "consumers": None if consumers is None else consumers[queue],
            **_pause(pauses.get(queue)),
        }
        for queue, depth in zip(queues, broker.depths(queues), strict=True)
    ]


def _pause(pause: Pause | None) -> dict[str, Any]:
    return {
        "paused": pause is not None,
        "paused_by": (pause.by or None) if pause else None,
        "pause_reason": (pause.reason or None) if pause else None,
        "paused_at": stamp(pause.at, False) if pause and pause.at is not None else None,
        "paused_until_at": stamp(pause.until, False) if pause and pause.until is not None else None,
    }


def _consumers(session: Session) -> tuple[Counter[str], int]:
    """How many workers take from each queue, and how many did not say."""
    answers = session.app.control.ask("active_queues", timeout_s=ASK_S)
    found: Counter[str] = Counter()
    for queues in answers.replies.values():
        if isinstance(queues, list):
            found.update({str(q.get("name")) for q in queues if isinstance(q, dict)})
    return found, len(answers.silent)


def _show_list() -> None:
    session, broker = current(), current().broker
    consumers, silent = _consumers(session)
    # RabbitMQ names its queues to nobody, but the workers know theirs.
    queues = sorted({*broker.queues(), *broker.paused(), *consumers})
    if not queues:
        broker.check()  # an empty list must not stand for a broker that is away
    items = _items(session, queues, consumers)
    meta = click.get_current_context().meta
    if session.out.for_people and meta.get(WatchOption.KEY) is not None:
        _add_changes(items, meta.get(_LAST))
        meta[_LAST] = _Look(time.monotonic(), {item["queue"]: item["ready"] for item in items})
    show(items)
    if silent:
        session.out.note(f"{count(silent, 'worker')} did not say what it takes within {ASK_S:g} s")
    others = broker.held_by_others()
    if others:
        session.out.note(f"{count(others, 'more message')} held by Celery's workers, of all queues")


def _add_changes(items: Sequence[dict[str, Any]], last: _Look | None) -> None:
    """How fast each grew since the look before: what came less what was taken."""
    now = time.monotonic()
    for item in items:
        before = last.ready.get(item["queue"]) if last else None
        item["change_per_s"] = (
            None if last is None or before is None else round((item["ready"] - before) / (now - last.at), 2)
        )


page = Page(
    "ls",
    callback=_show_list,
    params=[],
    lists=True,
    help="""List the queues: what waits where, since when, and who takes it.

    IN FLIGHT is what qcore's workers hold; what Celery's hold is said apart, since their ledger is one for
    all queues. OLDEST is for how long the first ready message has been so. Redis knows it of tasks
    that qcore sent, RabbitMQ of none. CONSUMERS are the workers that answered within 0.3 s. With
    --watch, CHANGE/S says how fast READY grew since the look before: what came less what was taken.""",
    examples=[("qctl queue ls -o json", "for a program"), ("qctl queue ls -w", "again and again")],
    exit_codes=(exits.FAILED,),
    see_also=["queue peek", "queue pause", "inspect active_queues"],
)
