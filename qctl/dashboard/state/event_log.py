"""The dashboard's event state: tasks, workers, the last events, rates and charts.

In:  batches of events, from one thread.  Out: the event part of a Snapshot, for another thread.
Before this: sources/live.py or sources/replay.py, the sources of events.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qcore.events.state import State
from qcore.wire.event import Event
from qctl.dashboard.state.lazy_rows import LogRows, TaskRows
from qctl.dashboard.state.search import Found, TaskSearch, Wanted
from qctl.dashboard.state.series import Charts
from qctl.output import state_styles

RATE_WINDOW_S = 5.0
LOG_SIZE = 1000
#: kinds of events that the broker view counts
MOST_KINDS = 4


class Ended(NamedTuple):
    """Tasks that ended, by queue; uncertain: queues of which more may have ended; total: over all queues."""

    by_queue: Counter[str]
    uncertain: frozenset[str] = frozenset()
    total: int = 0


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
        #: whether events arrive; while the broker cannot be reached, nothing is known of what ends
        self.listening = True
        #: published tasks per second by the broker's counts; the charts show it if there is a broker
        self.published_per_s: float | None = None
        self.has_broker = False

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

    def rates(self, now: float) -> tuple[float | None, float | None]:
        """Events and finished tasks per second over RATE_WINDOW_S, None while that is unknown; also samples
        the charts."""
        counts = self.state.counts
        failed = counts.get("task-failed", 0)
        done = counts.get("task-succeeded", 0) + failed
        self.charts.listens(self.listening, self.published_per_s, self.has_broker)
        self.charts.sample(now)
        if not self.listening:
            self._samples.clear()
            return None, None
        if self._samples and self._samples[-1][0] >= now:
            self._samples.pop()  # a recording that stands still, or went back
        self._samples.append((now, self.state.events, done))
        while len(self._samples) > 2 and self._samples[1][0] < now - RATE_WINDOW_S:
            self._samples.popleft()
        first = self._samples[0]
        span = now - first[0]
        if span < 0.2:
            return None, None
        return (self.state.events - first[1]) / span, (done - first[2]) / span

    def ended_by_queue(self, queues_of: Mapping[str, Sequence[str]]) -> Ended:
        """Tasks that ended since the last call, by queue. queues_of: the queues of each worker. Celery's
        events name no queue: it is that of the worker if it consumes one."""
        table = self.state.table
        found, uncertain, total = Counter[str](), set[str](), 0
        for code, count in table.ended_in.items():
            new = count - self._ended_before.get(code, 0)
            if not new:
                continue
            total += new
            queue, worker = table.queues.words[code >> 16], table.workers.words[code & 0xFFFF]
            theirs = (queue,) if queue else tuple(queues_of.get(worker, ()))
            if len(theirs) == 1:
                found[theirs[0]] += new
            else:
                uncertain.update(theirs or {q for some in queues_of.values() for q in some})
        self._ended_before = dict(table.ended_in)
        return Ended(found, frozenset(uncertain), total)

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
        often = [f"{kind} {count:,}" for kind, count in Counter(self.state.counts).most_common(MOST_KINDS)]
        kept = f"{len(table):,} remembered in about {table.size() / 2**20:.1f} MiB"
        states = Counter[str]()
        for state, count in self.counts.items():
            states[state_styles.look(state).word] += count
        words = [f"{word} {count:,}" for word, count in states.most_common()]
        return {
            "events": " · ".join([f"{self.state.events:,} heard", f"{self.missed:,} lost", *often]),
            "tasks": " · ".join([kept, f"{table.forgotten:,} forgotten", *words]),
        }
