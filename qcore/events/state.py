"""The state that events add up to: live workers and observed tasks, bounded.

In:  event mappings, in any order.  Out: `workers` and `tasks`, with Celery's state names.
Before this: receiver.py.  After this: table.py keeps the tasks, a monitor displays them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from qcore.events.store.table import CODE_OF, FAILURE, PENDING, TaskSeen, TaskTable
from qcore.wire.event import LARGEST, Event, finite_number

DEFAULT_MAX_TASKS = 10_000
MAX_WORKERS = 5_000
MOST_KINDS = 200
#: seconds per heartbeat by which a measured clock difference may change: late events look like one
SKEW_STEP_S = 0.25
#: missed heartbeats after which a worker counts as silent
MISSED_BEATS = 3
DEFAULT_FREQ_S = 2.0


class WorkerSeen(msgspec.Struct):
    """One worker as described by its events."""

    node: str
    seen: float = 0.0  # our clock, when its last event arrived
    freq: float = DEFAULT_FREQ_S
    online: bool = True  # False after worker-offline
    active: int = 0
    processed: int = 0
    failed: int = 0  # tasks, since the monitor started
    loadavg: tuple[float, ...] = ()
    pid: int = 0
    software: str = ""
    last_seq: int = 0
    other_seq: int = 0  # of another sender under this name, which this one replaced or which is still there
    missed: int = 0  # events of this worker that never arrived, by sequence number
    skew_s: float | None = None  # its clock minus ours, less the delay of its events

    def is_alive(self, now: float) -> bool:
        """Whether an event arrived within the last few heartbeats."""
        return self.online and now - self.seen <= max(self.freq * MISSED_BEATS, 2.0)


class Tasks(Mapping[str, TaskSeen]):
    """The remembered tasks by id; each access creates a new record."""

    def __init__(self, table: TaskTable) -> None:
        self._table = table

    def __getitem__(self, uuid: str) -> TaskSeen:
        task = self._table.get(uuid)
        if task is None:
            raise KeyError(uuid)
        return task

    def __contains__(self, uuid: object) -> bool:
        return isinstance(uuid, str) and self._table.row(uuid) is not None

    def __iter__(self) -> Iterator[str]:
        return (self._table.id(row) for row in self._table.rows(newest_first=False))

    def __len__(self) -> int:
        return len(self._table)


class State:
    """Apply events; at most max_tasks tasks are remembered, successful ones are dropped first.

    on_event, when given, is called with each event after it was applied. Not thread-safe: one thread
    applies events, and readers in other threads need their own lock.
    """

    def __init__(
        self,
        max_tasks: int = DEFAULT_MAX_TASKS,
        on_event: Callable[[Event], None] | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self.on_event = on_event
        self.table = TaskTable(max_tasks, max_bytes)
        self.tasks = Tasks(self.table)
        self.workers: dict[str, WorkerSeen] = {}
        self.events = 0
        self.counts: dict[str, int] = {}  # events by type, since the start

    @property
    def forgotten(self) -> int:
        return self.table.forgotten

    def event(self, event: Event, now: float | None = None) -> None:
        """Apply one event. now is our clock, for detecting silent workers; None: the event's time."""
        self.fold((event,), now)

    def fold(self, events: Iterable[Event], now: float | None = None) -> None:
        """Apply events in their order; see event()."""
        counts, workers, take = self.counts, self.workers, self.table.take
        on_event = self.on_event
        for event in events:
            kind = event["type"]
            self.events += 1
            if kind in counts or len(counts) < MOST_KINDS:
                counts[kind] = counts.get(kind, 0) + 1
            code = CODE_OF.get(kind)
            if code is not None:
                uuid = event.get("uuid")
                if type(uuid) is str:
                    take(code, event, uuid)
                if code != PENDING:  # clients publish that event, not workers
                    worker = workers.get(event["hostname"]) or self._new_worker(event["hostname"])
                    seen = event["timestamp"] if now is None else now
                    if seen > worker.seen:
                        worker.seen = seen
                    if not worker.online:
                        worker.online = True
                    if code == FAILURE:
                        worker.failed += 1
                    seq = event.get("seq")
                    if type(seq) is int:
                        if seq == worker.last_seq + 1:
                            worker.last_seq = seq  # the usual case
                        else:
                            _count_missed(worker, kind, event)
            elif kind.startswith("worker-"):
                self._worker(kind, event, now)
            elif kind.startswith("task-") and type(event.get("uuid")) is str:
                self.table.note(event, event["uuid"])
            if on_event is not None:
                on_event(event)

    def newest(self, limit: int | None = None) -> Iterator[TaskSeen]:
        """Tasks, in reverse order of their first events."""
        for number, row in enumerate(self.table.rows()):
            if limit is not None and number >= limit:
                return
            yield self.table.task(row)

    # --- workers

    def _worker(self, kind: str, event: Event, now: float | None) -> None:
        node, sent = event.get("hostname"), event["timestamp"]
        if node is None:
            return  # of no worker: only counted, as in Celery
        worker = self.workers.get(node) or self._new_worker(node)
        worker.seen = max(worker.seen, sent if now is None else now)
        if now is not None:
            least = sent - now if worker.skew_s is None else worker.skew_s - SKEW_STEP_S
            worker.skew_s = max(sent - now, least)
        if kind != "worker-offline":
            worker.online = True
        else:
            worker.online = False
        _count_missed(worker, kind, event)
        if not worker.online:
            worker.last_seq = 0  # the next one of this name begins anew
        for field in ("active", "processed", "pid"):
            value = finite_number(event.get(field))
            if value is not None:
                setattr(worker, field, int(value))
        freq, load = finite_number(event.get("freq")), event.get("loadavg")
        if freq is not None and 0 < freq < 3600:
            worker.freq = freq
        if isinstance(load, list | tuple):
            worker.loadavg = tuple(x for x in map(finite_number, load[:3]) if x is not None)
        if isinstance(event.get("sw_ident"), str):
            worker.software = sys.intern(f"{event['sw_ident']} {event.get('sw_ver', '')}".strip()[:80])

    def _new_worker(self, node: str) -> WorkerSeen:
        if len(self.workers) >= MAX_WORKERS:
            del self.workers[min(self.workers.values(), key=lambda w: w.seen).node]
        worker = self.workers[node] = WorkerSeen(sys.intern(node))
        return worker


def _count_missed(worker: WorkerSeen, kind: str, event: Any) -> None:
    """Count the gap before an event; our workers number their events."""
    seq = event.get("seq")
    if type(seq) is not int or not 0 <= seq < LARGEST:
        return
    if kind == "worker-online" or seq <= 1:
        worker.other_seq, worker.last_seq = worker.last_seq, seq
        return
    # Two workers of one name number their events each for itself: an event continues the nearer of the two.
    last, other = worker.last_seq, worker.other_seq
    if other and other < seq and not 0 < seq - last <= seq - other:
        worker.last_seq, worker.other_seq = other, last
    if worker.last_seq and seq > worker.last_seq + 1:
        worker.missed += seq - worker.last_seq - 1
    worker.last_seq = max(worker.last_seq, seq)
