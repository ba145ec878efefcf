"""Arrival and departure rates of queues.

In:  what workers announced, and an earlier sample of the queues.  Out: rates for each queue.
Workers of qcore announce how many messages they claim. Arrivals are the claimed messages plus the growth
of the backlog. Celery's workers announce nothing, so for their queues only the change of the backlog
between two samples is known: a lower bound of the one rate; the other is None.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.wire.event import finite_number

if TYPE_CHECKING:
    from qcore.brokers.contract.administration import Depth
    from qcore.control.client import Answers

WORKERS, NET = "workers", "net"
#: no rates are known
UNKNOWN: dict[str, Any] = {"in_per_s": None, "out_per_s": None, "rates": None}


class QueueSample(NamedTuple):
    """The backlog of each queue at a moment."""

    at: float  # monotonic
    waiting: dict[str, int]


class Taken(NamedTuple):
    """Claim rates that qcore's workers announced, and the queues that other workers consume too."""

    per_s: dict[str, float]
    others: set[str]


def look(queues: Sequence[str], depths: Sequence[Depth]) -> QueueSample:
    waiting = {q: d.ready + (d.delayed or 0) for q, d in zip(queues, depths, strict=True)}
    return QueueSample(time.monotonic(), waiting)


def taken(answers: Answers) -> Taken:
    """Rates from the announcements of the workers that answered active_queues; silent workers count as
    claiming nothing."""
    per_s: dict[str, float] = {}
    others: set[str] = set()
    for node, queues in answers.replies.items():
        counts = counts_of(answers, node)
        if counts is None and isinstance(queues, list):
            others |= {str(q.get("name")) for q in queues if isinstance(q, dict)}
        for queue, (_, rate) in (counts or {}).items():
            per_s[queue] = per_s.get(queue, 0.0) + rate
    return Taken(per_s, others)


def counts_of(answers: Answers, node: str) -> Mapping[str, tuple[int, float]] | None:
    """By queue, how many messages this worker claimed, and how many per second; None: not announced."""
    member = answers.members.get(node)
    counts = member.info.get("taken") if member is not None and member.alive else None
    if not isinstance(counts, dict):
        return None
    found = {}
    for queue, one in counts.items():
        count, rate = (
            map(finite_number, one) if isinstance(one, list | tuple) and len(one) == 2 else (None, None)
        )
        if count is not None and rate is not None:
            found[queue] = int(count), rate
    return found


def rates(now: QueueSample, before: QueueSample | None, found: Taken) -> dict[str, dict[str, Any]]:
    """For each queue of the sample: in_per_s, out_per_s, and the source of the rates."""
    return {queue: _rates(queue, now, before, found) for queue in now.waiting}


def _rates(queue: str, now: QueueSample, before: QueueSample | None, found: Taken) -> dict[str, Any]:
    change = None
    if before is not None and queue in before.waiting and now.at > before.at:
        change = (now.waiting[queue] - before.waiting[queue]) / (now.at - before.at)
    if queue in found.others:
        # What grows by 5 a second gets at least 5; how many leave it meanwhile, nobody tells.
        grows = change is not None and change > 0
        came, went = (change, None) if grows else (None, -change if change else None)
        return {"in_per_s": _round(came), "out_per_s": _round(went), "rates": NET}
    went = found.per_s.get(queue, 0.0)
    came = None if change is None else max(went + change, 0.0)
    return {"in_per_s": _round(came), "out_per_s": _round(went), "rates": WORKERS}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def words(item: Mapping[str, Any]) -> list[str]:
    """Both rates as text; ~ marks a change of the backlog."""
    mark = "~" if item["rates"] == NET else ""
    values = (item["in_per_s"], item["out_per_s"])
    return ["-" if value is None else f"{mark}{value:,.1f}" for value in values]
