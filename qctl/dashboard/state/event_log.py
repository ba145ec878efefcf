"""The dashboard's event state: tasks, workers, the last events, rates and charts.

In:  batches of events, from one thread.  Out: the event part of a Snapshot, for another thread.
Before this: sources/live.py or sources/replay.py, the sources of events.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import Any

from qcore.events.state import State
from qcore.wire.event import Event
from qctl.dashboard.state.lazy_rows import LogRows, TaskRows
from qctl.dashboard.state.search import Found, TaskSearch, Wanted
from qctl.dashboard.state.series import Charts

RATE_WINDOW_S = 5.0
LOG_SIZE = 1000


class EventLog:
    """Folded events; at most max_tasks tasks in at most max_bytes."""

    def __init__(self, max_tasks: int, max_bytes: int | None = None) -> None:
        self.lock = threading.Lock()
        self.state = State(max_tasks, max_bytes=max_bytes)
        self.finder = TaskSearch(self.state.table)
        self.charts = Charts()
        self.lag_s = 0.0  # age of the newest event when it was folded
        self.since: float | None = None  # epoch seconds of the first event
        self._log: deque[list[Event]] = deque()
        self._logged = 0
        self._samples: deque[tuple[float, int, int]] = deque()
        self._ended_before: dict[int, int] = {}

    def fold(self, batch: list[Event], now: float | None = None) -> None:
        """Fold events; now: local clock (epoch seconds)."""
        if not batch:
            return
        at = time.time() if now is None else now
        with self.lock:
            self.state.fold(batch, at)
            if self.since is None:
                self.since = at
            self.lag_s = at - batch[-1]["timestamp"]
            self._log.append(batch)
            self._logged += len(batch)
            while self._logged - len(self._log[0]) >= LOG_SIZE:
                self._logged -= len(self._log.popleft())
            self.charts.fold(batch, self.state.table, at)

    # --- out; call with the lock held

    def tasks(self, wanted: Wanted) -> tuple[TaskRows, Found | None]:
        """The selected tasks, and the state of the search for them; None: no search is needed."""
        self.finder.want(wanted)
        if wanted.is_plain:
            return TaskRows(self.state.table), None
        found = self.finder.found
        if found.wanted != wanted:
            found = Found(wanted, type(found.rows)("Q"))
        return TaskRows(self.state.table, found.rows), found

    def log(self) -> LogRows:
        return LogRows(self._log, self.state.events, LOG_SIZE)

    def rates(self, now: float) -> tuple[float, float]:
        """Events and finished tasks per second over RATE_WINDOW_S; also samples the charts."""
        counts = self.state.counts
        failed = counts.get("task-failed", 0)
        done = counts.get("task-succeeded", 0) + failed
        self.charts.sample(now)
        self._samples.append((now, self.state.events, done))
        while len(self._samples) > 2 and self._samples[1][0] < now - RATE_WINDOW_S:
            self._samples.popleft()
        first = self._samples[0]
        span = now - first[0]
        if span < 0.2:
            return 0.0, 0.0
        return (self.state.events - first[1]) / span, (done - first[2]) / span

    def ended_by_queue(self, only_queue: str) -> Counter[str]:
        """Tasks that ended since the last call, by queue; only_queue: the queue for events that name none."""
        table = self.state.table
        found: Counter[str] = Counter()
        for code, total in table.ended_in.items():
            new = total - self._ended_before.get(code, 0)
            if new:
                found[table.queues.words[code] or only_queue] += new
        self._ended_before = dict(table.ended_in)
        return found

    @property
    def counts(self) -> dict[str, int]:
        """Remembered tasks by state."""
        from qcore.events.store.table import STATES

        return {s: n for s, n in zip(STATES, self.state.table.totals, strict=True) if n}

    @property
    def missed(self) -> int:
        """Number of events that never arrived, by the workers' sequence numbers."""
        return sum(w.missed for w in self.state.workers.values())

    def facts(self) -> dict[str, Any]:
        """The event facts of the broker view."""
        table = self.state.table
        return {
            "events heard": f"{self.state.events:,}",
            "events lost": f"{self.missed:,}",
            "tasks remembered": f"{len(table):,} in about {table.size() / 2**20:.1f} MiB",
            "tasks forgotten": f"{table.forgotten:,}",
        }
