"""The state shared by all memory brokers of one URL: queues, owners, results, subscribers.

In:  messages and deliveries.  Out: entries in their places; every access holds `changed`.
Next: brokers/memory/consumer.py, brokers/memory/bus.py, brokers/memory/broker.py.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from qcore.brokers.contract.administration import AUDIT_SIZE, Pause
from qcore.brokers.contract.failed_tasks import FailedTaskLimits
from qcore.brokers.contract.records import Member, Message, Quarantined, StoredResult
from qcore.brokers.contract.schedules import OutboxItem, StoredEntry
from qcore.errors import Unroutable
from qcore.wire.failure import FailedTask
from qcore.wire.schedule import HistoryRecord

QUARANTINE_SIZE = 10_000
PRIORITIES = range(10)


class Entry(msgspec.Struct):
    """One message with its state."""

    raw: bytes
    queue: str
    priority: int
    crashes: int = 0  # how often a dead or uncertain owner returned it
    ready_at: float = 0.0  # epoch seconds since which it is ready


class Count(msgspec.Struct):
    """One chord, and the members that were counted."""

    size: int
    parts: dict[str, tuple[float, bytes]] = {}
    token: str | None = None
    done: bool = False


class Waiter(Protocol):
    """A consumer that may wait for messages."""

    armed: bool

    @property
    def queues(self) -> tuple[str, ...]: ...

    def ring(self) -> None: ...


class Listener(Protocol):
    """A subscription or an inbox; published messages are appended to `heard`."""

    @property
    def exchange(self) -> str: ...

    @property
    def pattern(self) -> str: ...

    @property
    def heard(self) -> deque[bytes]: ...


class Queue:
    def __init__(self) -> None:
        self.ready: tuple[deque[Entry], ...] = tuple(deque() for _ in PRIORITIES)
        self.delayed: list[tuple[float, int, Entry]] = []


class Owner:
    def __init__(self, lease_s: float, node: str = "") -> None:
        self.node = node
        self.lease_until = time.monotonic() + lease_s
        self.held: dict[int, Entry] = {}


class MemoryState:
    """The shared state of all Broker objects of one URL."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.queues: dict[str, Queue] = {}
        self.owners: set[Owner] = set()
        self.consumers: set[Waiter] = set()
        self.audit: deque[bytes] = deque(maxlen=AUDIT_SIZE)
        self.lines: dict[str, list[bytes]] = {}  # task logs
        self.quarantine: deque[Quarantined] = deque(maxlen=QUARANTINE_SIZE)
        self.results: dict[str, tuple[bytes, float | None]] = {}
        self.chords: dict[str, Count] = {}
        self.subscriptions: set[Listener] = set()
        self.inboxes: dict[tuple[str, str], list[Listener]] = {}
        self.members: dict[str, tuple[float, float, dict[str, Any]]] = {}
        self.revoked: dict[str, float] = {}
        self.pauses: dict[str, Pause] = {}
        self.said: dict[str, float] = {}  # keys of first_time(), until when
        self.once: dict[str, tuple[str, float]] = {}  # key -> the task that has it, until when
        self.failures: dict[str, FailedTask] = {}  # the newest last
        self.failures_dropped = 0
        self.schedules: dict[str, StoredEntry] = {}
        self.schedule_revision = 0
        self.schedule_history: dict[str, deque[HistoryRecord]] = {}  # the newest last
        self.schedules_deleted: dict[str, tuple[StoredEntry, float]] = {}  # and when
        self.schedulers: dict[str, tuple[float, float, dict[str, Any]]] = {}
        self.outbox: dict[str, OutboxItem] = {}  # the oldest first
        self.sequence = itertools.count(1)

    def queue(self, name: str) -> Queue:
        found = self.queues.get(name)
        if found is None:
            found = self.queues[name] = Queue()
        return found

    def put(self, message: Message, queue: str) -> None:
        entry = Entry(message.raw, queue, min(9, max(0, message.priority)))
        if message.due_at is None:
            self.append(entry)
        else:
            self.hold(entry, message.due_at)
            self.ring(queue)

    def append(self, entry: Entry) -> None:
        """Append to the back of its queue."""
        entry.ready_at = time.time()
        self.queue(entry.queue).ready[entry.priority].append(entry)
        self.ring(entry.queue)

    def hold(self, entry: Entry, due_at: float) -> None:
        heapq.heappush(self.queue(entry.queue).delayed, (due_at, next(self.sequence), entry))

    def give_back(self, entries: Iterable[Entry], crashed: bool) -> int:
        """Requeue at the heads of their queues; the first of `entries` comes first."""
        count = 0
        for entry in reversed(list(entries)):
            entry.crashes += crashed
            self.queue(entry.queue).ready[entry.priority].appendleft(entry)
            self.ring(entry.queue)
            count += 1
        return count

    def is_paused(self, queue: str) -> bool:
        pause = self.pauses.get(queue)
        return pause is not None and (pause.until is None or pause.until > time.time())

    def ring(self, queue: str) -> None:
        for consumer in self.consumers:
            if consumer.armed and queue in consumer.queues:
                consumer.ring()

    def keep_result(self, result: StoredResult) -> None:
        until = None if result.ttl_s is None else time.time() + result.ttl_s
        self.results[result.task_id] = (result.meta, until)
        self.changed.notify_all()

    def store_failed_task(self, failure: FailedTask, limits: FailedTaskLimits) -> None:
        last = next(reversed(self.failures.values()), None)
        at = max(time.time(), last.failed_at + 1e-6 if last is not None else 0.0)
        self.failures.pop(failure.task_id, None)
        self.failures[failure.task_id] = msgspec.structs.replace(failure, failed_at=at, retried_as="")
        while self.failures:
            oldest = next(iter(self.failures.values()))
            expired = limits.ttl_s is not None and oldest.failed_at + limits.ttl_s <= at
            if not expired and len(self.failures) <= limits.most:
                return
            del self.failures[oldest.task_id]
            self.failures_dropped += not expired

    def route(self, message: Message) -> str:
        if message.queue:
            return message.queue
        if message.routing_key and (not message.exchange or message.routing_key in self.queues):
            return message.routing_key
        raise Unroutable(f"no queue is bound to '{message.exchange}' for key '{message.routing_key}'")


def members_of(announced: Mapping[str, tuple[float, float, dict[str, Any]]]) -> list[Member]:
    """Those that announced themselves, by name, without the ones that expired over an hour ago."""
    now = time.time()
    return [
        Member(node, seen, now < seen + ttl, dict(info))
        for node, (seen, ttl, info) in sorted(announced.items())
        if now < seen + ttl + 3600
    ]
