"""Poll the broker for the dashboard: queues, failed tasks, its own state. No worker is queried.

In:  an app.  Out: rows for a Snapshot.  Bounded: MOST_QUEUES, MOST_FAILURES, and one poll per interval.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from qcore.errors import Unsupported
from qctl.dashboard.state.snapshot import FailureRow, QueueRow
from qctl.fleet import queue_rates

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.brokers.contract.administration import Depth
    from qcore.wire.failure import FailedTask

MOST_QUEUES = 500
MOST_FAILURES = 2_000


#: shortest time between two polls that yields a rate, seconds
LEAST_SPAN_S = 0.2


class BrokerPoll:
    """Keeps the values of the last poll, to compute rates in the next."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._held: dict[str, int] = {}
        self._last: queue_rates.QueueSample | None = None
        #: response time of the broker, seconds
        self.round_trip_s: float | None = None

    def queues(
        self, consumers: Counter[str], done: Counter[str], taken: queue_rates.Taken | None
    ) -> tuple[QueueRow, ...]:
        """consumers: workers by queue; done: tasks that ended since the last poll according to events, by
        queue; taken: the workers' announced claim rates, which are exact where all workers announce them."""
        broker = self._app.broker
        begin = time.perf_counter()
        paused = set(broker.administration.paused())
        self.round_trip_s = time.perf_counter() - begin
        names = sorted({*broker.administration.queues(), *consumers, *paused})[:MOST_QUEUES]
        depths = broker.administration.depths(names)
        last, looked = self._last, queue_rates.look(names, depths)
        by_queue = queue_rates.rates(looked, last, taken or queue_rates.Taken({}, set()))
        span = 0.0 if last is None else looked.at - last.at
        rows, before, now = [], self._held, time.time()
        self._last, self._held = looked, {n: _held(d) for n, d in zip(names, depths, strict=True)}
        for name, depth in zip(names, depths, strict=True):
            came, went = by_queue[name]["in_per_s"], by_queue[name]["out_per_s"]
            seen = taken is None or name in taken.others
            if seen:
                # Events of Celery's workers may name no queue; then the rates are unknown.
                known = span > LEAST_SPAN_S and (done[name] > 0 or not done[""])
                change = self._held[name] - before.get(name, self._held[name])
                went = done[name] / span if known else None
                came = max(0.0, (change + done[name]) / span) if known else None
            oldest_s = None if depth.oldest_at is None else max(0.0, now - depth.oldest_at)
            rows.append(
                QueueRow(
                    name,
                    depth.ready,
                    depth.delayed,
                    depth.in_flight,
                    came,
                    went,
                    consumers[name],
                    name in paused,
                    oldest_s,
                    seen,
                )
            )
        return tuple(rows)

    def failures(self) -> tuple[FailureRow, ...]:
        """Failed tasks that were not retried, by name and exception, largest groups first."""
        found: list[FailedTask] = []
        cursor = ""
        try:
            while len(found) < MOST_FAILURES:
                page = self._app.broker.failed_tasks.page(limit=500, after=cursor)
                found += (f for f in page.entries if not f.retried_as)
                cursor = page.cursor
                if not cursor:
                    break
        except Unsupported:
            return ()
        return self._grouped(found)

    def _grouped(self, found: list[FailedTask]) -> tuple[FailureRow, ...]:
        groups: dict[tuple[str, str], list[FailedTask]] = {}
        for failure in found:
            groups.setdefault((failure.name, failure.exc_type), []).append(failure)
        rows = []
        for (name, exc_type), members in groups.items():
            (whole,) = self._app.broker.failed_tasks.of([members[0].task_id])
            times = [m.failed_at for m in members]
            row = FailureRow(
                name,
                exc_type,
                members[0].queue,
                len(members),
                min(times),
                max(times),
                whole or members[0],
            )
            rows.append(row)
        return tuple(sorted(rows, key=lambda r: (-r.count, r.name)))

    def broker(self) -> dict[str, str]:
        """Facts about the broker: address, response time, features, results, symptoms."""
        from qcore.errors import mask_url

        broker = self._app.broker
        can = [name for name in broker.features.__struct_fields__ if getattr(broker.features, name)]
        facts = {
            "address": mask_url(broker.place),
            "answers in": "-" if self.round_trip_s is None else f"{self.round_trip_s * 1000:.1f} ms",
            "can": ", ".join(can),
            "results": mask_url(self._app.results.url) if self._app.results.keeps else "not kept",
        }
        for symptom in broker.diagnosis.symptoms():
            facts[symptom.name] = f"{symptom.level}: {symptom.what} → {symptom.fix}"
        return facts


def _held(depth: Depth) -> int:
    """The number of messages that have not been settled."""
    return depth.ready + (depth.delayed or 0) + (depth.in_flight or 0)
