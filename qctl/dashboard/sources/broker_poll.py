"""Poll the broker for the dashboard: queues, failed tasks, its own state. No worker is queried.

In:  an app.  Out: rows for a Snapshot.  Bounded: MOST_QUEUES, MOST_FAILURES, and one poll per interval.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from qcore.errors import Unsupported
from qctl.dashboard.sources.broker_facts import BrokerFacts
from qctl.dashboard.state.event_log import Ended
from qctl.dashboard.state.failures import StoredFailures
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
        self._facts = BrokerFacts()
        #: response time of the broker, seconds
        self.round_trip_s: float | None = None
        #: tasks published per second between the last two polls; None: unknown
        self.published_per_s: float | None = None

    def queues(
        self,
        consumers: Counter[str] | None,
        done: Ended,
        taken: queue_rates.Taken | None,
        going_on: Callable[[str], tuple[str, ...]] = lambda queue: (),
    ) -> tuple[QueueRow, ...]:
        """consumers: workers by queue, None: not asked yet; done: tasks that ended since the last poll
        according to events; taken: the workers' announced claim rates, which are exact where all workers
        announce them; going_on(queue): Celery workers, which know no pause, that consume it."""
        broker = self._app.broker
        begin = time.perf_counter()
        paused = set(broker.administration.paused())
        self.round_trip_s = time.perf_counter() - begin
        names = sorted({*broker.administration.queues(), *(consumers or ()), *paused})[:MOST_QUEUES]
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
                # Events of Celery's workers name no queue: of a worker with several, the rates are unknown.
                known = span > LEAST_SPAN_S and taken is not None and name not in done.uncertain
                change = self._held[name] - before.get(name, self._held[name])
                went = done.by_queue[name] / span if known else None
                came = max(0.0, (change + done.by_queue[name]) / span) if known else None
            oldest_s = None if depth.oldest_at is None else max(0.0, now - depth.oldest_at)
            rows.append(
                QueueRow(
                    name,
                    depth.ready,
                    depth.delayed,
                    depth.in_flight,
                    came,
                    went,
                    None if consumers is None else consumers[name],
                    name in paused,
                    oldest_s,
                    seen,
                    going_on(name) if name in paused else (),
                )
            )
        self._sum_up(rows, before, done, span)
        return tuple(rows)

    def _sum_up(self, rows: list[QueueRow], before: dict[str, int], done: Ended, span: float) -> None:
        """What was published: by queue where that is known, else what ended and what more is held now."""
        if span <= LEAST_SPAN_S:
            return
        rates = [row.in_per_s for row in rows]
        if all(rate is not None for rate in rates):
            self.published_per_s = sum(rate for rate in rates if rate is not None)
        elif any(row.in_flight is None for row in rows):
            self.published_per_s = None
        else:
            change = sum(self._held.values()) - sum(before.values())
            self.published_per_s = max(0.0, (change + done.total) / span)

    def failures(self) -> StoredFailures:
        """Failed tasks that were not retried, by name and exception, largest groups first."""
        found: list[FailedTask] = []
        ids: set[str] = set()
        cursor = ""
        try:
            while len(ids) < MOST_FAILURES:
                page = self._app.broker.failed_tasks.page(limit=500, after=cursor)
                ids.update(f.task_id for f in page.entries)
                found += (f for f in page.entries if not f.retried_as)
                cursor = page.cursor
                if not cursor:
                    break
        except Unsupported:
            return StoredFailures()
        return StoredFailures(self._grouped(found), frozenset(ids), not cursor)

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

    @property
    def numbers(self) -> dict[str, float | None]:
        """What the charts show of the broker; None: unknown."""
        return self._facts.numbers

    def broker(self) -> dict[str, str]:
        """Facts about the broker: address, results, symptoms, server, response time, features."""
        from qcore.errors import mask_url

        broker = self._app.broker
        can = [name for name in broker.features.__struct_fields__ if getattr(broker.features, name)]
        wrong = broker.diagnosis.symptoms()
        kept = f"in {mask_url(self._app.results.url)}" if self._app.results.keeps else "not kept"
        return {
            "address": f"{mask_url(broker.place)} · results {kept}",
            **{one.name: f"{one.level}: {one.what} → {one.fix}" for one in wrong},
            **self._facts.look(broker.diagnosis.server(), self.round_trip_s, time.monotonic()),
            "can": ", ".join(can),
        }


def _held(depth: Depth) -> int:
    """The number of messages that have not been settled."""
    return depth.ready + (depth.delayed or 0) + (depth.in_flight or 0)
