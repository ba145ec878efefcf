"""Metrics of the schedule.

In:  an app, at each scrape.  Out: families of samples, which collector.py writes.
The first MOST_ENTRIES entries that are seen have series of their own, the others share one. Counters never
decrease: they are summed from what was added since the last scrape, also when an entry is deleted.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from qcore.app.schedules import scheduled
from qcore.brokers.contract.schedules import StoredEntry
from qcore.errors import BrokerError, ConfigError, Malformed, Unsupported
from qctl.fleet import schedules

if TYPE_CHECKING:
    from qcore.app.app import App

MOST_ENTRIES = 100
OTHERS = "(others)"
_UP = "whether the store of the schedule can be reached"
_COUNTS = {
    "runs": "messages that were published for the entry",
    "missed": "instants that passed and were not published",
    "overlapped": "instants that were not published because the last run had not ended",
}


class Family(NamedTuple):
    """One metric."""

    name: str
    kind: str
    what: str
    samples: list[tuple[dict[str, str], float]]


class ScheduleMetrics:
    """Remembers the counts of the last scrape. Thread-safe."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._named: set[str] = set()  # the entries with series of their own
        self._seen: dict[str, dict[str, int]] = {}
        self._total: dict[str, Counter[str]] = {name: Counter() for name in _COUNTS}

    def families(self) -> Iterator[Family]:
        """The metrics now; none where no entries are kept."""
        try:
            store = self._app.schedules.store
            (now, _), found = store.clock(), store.entries()
            alive = sum(member.alive for member in store.schedulers())
        except (ConfigError, Unsupported):
            return
        except BrokerError:
            yield Family("qcore_schedule_store_up", "gauge", _UP, [({}, 0)])
            return
        yield Family("qcore_schedule_store_up", "gauge", _UP, [({}, 1)])
        yield Family("qcore_schedulers", "gauge", "schedulers that run", [({}, alive)])
        yield Family("qcore_schedule_entries", "gauge", "entries of the schedule", [({}, len(found))])
        with self._lock:
            yield from self._of(found, now)

    def _of(self, found: list[StoredEntry], now: float) -> Iterator[Family]:
        self._count(found)
        for name, what in _COUNTS.items():
            samples: list[tuple[dict[str, str], float]] = [
                ({"entry": entry}, number) for entry, number in sorted(self._total[name].items())
            ]
            yield Family(f"qcore_schedule_{name}_total", "counter", what, samples)
        yield from self._gauges(found, now)

    def _label(self, name: str) -> str:
        if len(self._named) < MOST_ENTRIES:
            self._named.add(name)
        return name if name in self._named else OTHERS

    def _count(self, found: list[StoredEntry]) -> None:
        seen = {}
        for one in found:
            state, before = one.state, self._seen.get(one.name, {})
            counts = {"runs": state.runs, "missed": state.missed, "overlapped": state.overlapped}
            label = self._label(one.name)
            for name, number in counts.items():
                self._total[name][label] += max(0, number - before.get(name, 0))
            seen[one.name] = counts
        self._seen = seen

    def _gauges(self, found: list[StoredEntry], now: float) -> Iterator[Family]:
        late: dict[str, float] = {}
        upcoming: dict[str, float] = {}
        for one in found:
            label = self._label(one.name)
            if one.state.last_sent_us:
                late[label] = max(late.get(label, 0.0), round(one.state.late_s, 3))
            if label == OTHERS:
                continue  # of many entries the next instants cost too much
            try:
                at, _, _ = schedules.next_of(self._app, scheduled(one), now)
            except Malformed:
                continue  # it is never published, and `qctl doctor` names it
            if at is not None:
                upcoming[label] = at
        what = "how late the last message of the entry was published; of the others the greatest"
        samples: list[tuple[dict[str, str], float]] = [({"entry": e}, s) for e, s in sorted(late.items())]
        yield Family("qcore_schedule_late_seconds", "gauge", what, samples)
        what = "the next instant of the entry, epoch seconds; none while it is paused"
        # As a whole number: six digits of a float would round it to days.
        samples = [({"entry": e}, round(s)) for e, s in sorted(upcoming.items())]
        yield Family("qcore_schedule_next_timestamp_seconds", "gauge", what, samples)
