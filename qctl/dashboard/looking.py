"""Look at the broker for the dashboard: queues, failed tasks, its own state. Nobody is asked but the broker.

In:  an app.  Out: rows for a Snapshot.  Bounded: so many queues, so many failures, and one look a turn.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from qcore.errors import Unsupported
from qctl.dashboard.snapshot import FailureRow, QueueRow

if TYPE_CHECKING:
    from qcore.app import App
    from qcore.wire.failure import Failure

MOST_QUEUES = 500
MOST_FAILURES = 2_000


class Looker:
    """Keeps what the last look said, so that the next can tell rates."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._before: dict[str, tuple[float, int]] = {}
        #: how long the broker took to answer, in seconds
        self.round_trip_s: float | None = None

    def queues(self, consumers: Counter[str], done: Counter[str]) -> tuple[QueueRow, ...]:
        """consumers: workers by queue; done: tasks that ended since the last look, by queue."""
        broker = self._app.broker
        begin = time.perf_counter()
        paused = set(broker.paused())
        self.round_trip_s = time.perf_counter() - begin
        now, rows = time.monotonic(), []
        names = sorted({*broker.queues(), *consumers, *paused})[:MOST_QUEUES]
        for name in names:
            depth = broker.depth(name)
            here = depth.ready + (depth.delayed or 0) + (depth.in_flight or 0)
            at, before = self._before.get(name, (now, here))
            self._before[name] = (now, here)
            span = now - at
            out = done[name] / span if span > 0.2 else None
            rows.append(
                QueueRow(
                    name,
                    depth.ready,
                    depth.delayed,
                    depth.in_flight,
                    max(0.0, (here - before + done[name]) / span) if span > 0.2 else None,
                    out,
                    consumers[name],
                    name in paused,
                    None if depth.oldest_at is None else max(0.0, time.time() - depth.oldest_at),
                )
            )
        return tuple(rows)

    def failures(self) -> tuple[FailureRow, ...]:
        """Failed tasks that nobody has tried again, by name and exception, the most first."""
        found: list[Failure] = []
        cursor = ""
        try:
            while len(found) < MOST_FAILURES:
                page = self._app.broker.failures(limit=500, after=cursor)
                found += (f for f in page.entries if not f.retried_as)
                cursor = page.cursor
                if not cursor:
                    break
        except Unsupported:
            return ()
        return self._grouped(found)

    def _grouped(self, found: list[Failure]) -> tuple[FailureRow, ...]:
        groups: dict[tuple[str, str], list[Failure]] = {}
        for failure in found:
            groups.setdefault((failure.name, failure.exc_type), []).append(failure)
        rows = []
        for (name, exc_type), members in groups.items():
            (whole,) = self._app.broker.failures_of([members[0].task_id])
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
        """Facts about the broker: where, how quick, what it can do."""
        from qcore.errors import mask_url

        broker = self._app.broker
        can = [name for name in broker.features.__struct_fields__ if getattr(broker.features, name)]
        facts = {
            "address": mask_url(broker.place),
            "answers in": "-" if self.round_trip_s is None else f"{self.round_trip_s * 1000:.1f} ms",
            "can": ", ".join(can),
            "results": mask_url(self._app.results.url) if self._app.results.keeps else "not kept",
        }
        for symptom in broker.symptoms():
            facts[symptom.name] = f"{symptom.level}: {symptom.what} → {symptom.fix}"
        return facts
