"""A broker inside one process, for tests and notebooks.

In:  memory://name; Broker objects with the same URL share one place.  Out: the whole contract.
Nothing outlives the process. One lock guards a place; every wait is on its one condition.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from qcore.brokers._memory_chords import Count, MemoryChords
from qcore.brokers._topics import hears
from qcore.brokers.base import (
    Consumer,
    Delivery,
    Depth,
    Features,
    Inbox,
    Member,
    Message,
    Quarantined,
    Settle,
    Settlement,
    StoredResult,
    Subscription,
    brokers,
)
from qcore.errors import BrokerDown, Unroutable
from qcore.pipe import WakePipe
from qcore.wire.result import ResultMeta, decode

QUARANTINE_SIZE = 10_000
PRIORITIES = range(10)


class _Entry(msgspec.Struct):
    """One message wherever it is."""

    raw: bytes
    queue: str
    priority: int
    crashes: int = 0  # how often a dead or unsure owner gave it back


class _Queue:
    def __init__(self) -> None:
        self.ready: tuple[deque[_Entry], ...] = tuple(deque() for _ in PRIORITIES)
        self.delayed: list[tuple[float, int, _Entry]] = []


class _Owner:
    def __init__(self, lease_s: float) -> None:
        self.lease_until = time.monotonic() + lease_s
        self.held: dict[int, _Entry] = {}


class _Place:
    """What all Broker objects of one URL share."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.queues: dict[str, _Queue] = {}
        self.owners: set[_Owner] = set()
        self.consumers: set[MemoryConsumer] = set()
        self.quarantine: deque[Quarantined] = deque(maxlen=QUARANTINE_SIZE)
        self.results: dict[str, tuple[bytes, float | None]] = {}
        self.chords: dict[str, Count] = {}
        self.ears: set[MemorySubscription] = set()
        self.inboxes: dict[tuple[str, str], list[MemoryInbox]] = {}
        self.members: dict[str, tuple[float, float, dict[str, Any]]] = {}
        self.revoked: dict[str, float] = {}
        self.sequence = itertools.count(1)

    def queue(self, name: str) -> _Queue:
        found = self.queues.get(name)
        if found is None:
            found = self.queues[name] = _Queue()
        return found

    def put(self, message: Message, queue: str) -> None:
        entry = _Entry(message.raw, queue, min(9, max(0, message.priority)))
        if message.due_at is None:
            self.queue(queue).ready[entry.priority].append(entry)
        else:
            self.hold(entry, message.due_at)
        self.ring(queue)

    def hold(self, entry: _Entry, due_at: float) -> None:
        heapq.heappush(self.queue(entry.queue).delayed, (due_at, next(self.sequence), entry))

    def give_back(self, entries: Iterable[_Entry], crashed: bool) -> int:
        """To the heads of their queues, the first of `entries` foremost."""
        count = 0
        for entry in reversed(list(entries)):
            entry.crashes += crashed
            self.queue(entry.queue).ready[entry.priority].appendleft(entry)
            self.ring(entry.queue)
            count += 1
        return count

    def ring(self, queue: str) -> None:
        for consumer in self.consumers:
            if consumer.armed and queue in consumer.queues:
                consumer.ring()

    def keep_result(self, result: StoredResult) -> None:
        until = None if result.ttl_s is None else time.time() + result.ttl_s
        self.results[result.task_id] = (result.meta, until)
        self.changed.notify_all()

    def route(self, message: Message) -> str:
        if message.queue:
            return message.queue
        if message.routing_key and (not message.exchange or message.routing_key in self.queues):
            return message.routing_key
        raise Unroutable(f"no queue is bound to '{message.exchange}' for key '{message.routing_key}'")


_places: dict[str, _Place] = {}
_places_lock = threading.Lock()


class MemoryConsumer(Consumer):
    """One owner of deliveries."""

    def __init__(self, place: _Place, queues: Sequence[str], lease_s: float) -> None:
        self.armed = False
        self._place, self._lease_s = place, lease_s
        self._numbers = itertools.count(1)
        self._limit: int | None = None
        self._pipe = WakePipe()
        self._closed = False
        self._next_due: float | None = None
        self._lost = False
        self.queues = ()
        with place.changed:
            self._owner = _Owner(lease_s)
            place.owners.add(self._owner)
            place.consumers.add(self)
        self.set_queues(queues)

    def set_queues(self, queues: Sequence[str]) -> None:
        with self._place.changed:
            self.queues = tuple(queues)
            for name in self.queues:
                self._place.queue(name)

    def prefetch(self, count: int) -> None:
        self._limit = count

    def claim(self, limit: int) -> list[Delivery]:
        with self._place.changed:
            if time.monotonic() >= self._owner.lease_until:
                self._switch()
            self._ripen()
            found: list[Delivery] = []
            sources = [self._place.queue(name) for name in self.queues]
            for priority in PRIORITIES:
                for source in sources:
                    ready = source.ready[priority]
                    while ready and len(found) < limit:
                        found.append(self._hand_out(ready.popleft()))
            return found

    def _hand_out(self, entry: _Entry) -> Delivery:
        number = next(self._numbers)
        self._owner.held[number] = entry
        return Delivery(number, entry.queue, entry.raw, entry.crashes > 0, entry.crashes + 1)

    def _ripen(self) -> None:
        """Due delayed messages become ready."""
        now, nearest = time.time(), None
        for name in self.queues:
            source = self._place.queue(name)
            while source.delayed and source.delayed[0][0] <= now:
                entry = heapq.heappop(source.delayed)[2]
                source.ready[entry.priority].append(entry)
            if source.delayed:
                due = source.delayed[0][0]
                nearest = due if nearest is None else min(nearest, due)
        self._next_due = nearest

    def settle(self, settlements: Sequence[Settlement]) -> list[int]:
        refused = []
        with self._place.changed:
            for s in settlements:
                for message in s.sends:
                    self._place.route(message)  # before anything is done
            for s in settlements:
                entry = self._owner.held.pop(s.delivery.number, None)
                if entry is None:
                    refused.append(s.delivery.number)
                else:
                    self._end(s, entry)
        return refused

    def _end(self, s: Settlement, entry: _Entry) -> None:
        place = self._place
        if s.result is not None:
            place.keep_result(s.result)
        for message in s.sends:
            place.put(message, place.route(message))
        if s.action == Settle.REQUEUE or s.action == Settle.RETURN:
            place.give_back([entry], s.action == Settle.RETURN)
        elif s.action == Settle.DELAY:
            place.hold(entry, s.due_at)
            place.ring(entry.queue)
        elif s.action == Settle.QUARANTINE:
            number = str(next(place.sequence))
            place.quarantine.append(Quarantined(number, entry.queue, s.reason, time.time(), entry.raw))

    def fds(self) -> list[int]:
        return [] if self._closed else [self._pipe.fileno()]

    def arm(self) -> None:
        with self._place.changed:
            if self.armed:
                return
            self.armed = True
            self._ripen()
            if any(ready for name in self.queues for ready in self._place.queue(name).ready):
                self.ring()

    def ring(self) -> None:
        self._pipe.ring()
        self.armed = False

    def disarm(self) -> None:
        with self._place.changed:
            self.armed = False
            self._pipe.hush()

    def wake(self, fd: int) -> tuple[()]:
        with self._place.changed:
            self._pipe.hush()
        return ()

    def idle_s(self) -> float:
        due = self._next_due
        return 1.0 if due is None else max(0.0, min(1.0, due - time.time()))

    def renew(self) -> bool:
        with self._place.changed:
            if self._closed:
                return False
            now = time.monotonic()
            if now >= self._owner.lease_until or self._owner not in self._place.owners:
                self._switch()
            else:
                self._owner.lease_until = now + self._lease_s
            lost, self._lost = self._lost, False
            return not lost

    def _switch(self) -> None:
        """Go on as a new owner; the old one's messages are for reap()."""
        self._lost = True
        self._owner = _Owner(self._lease_s)
        self._place.owners.add(self._owner)

    def reap(self) -> int:
        with self._place.changed:
            now = time.monotonic()
            dead = [o for o in self._place.owners if now >= o.lease_until]
            self._place.owners.difference_update(dead)
            count = 0
            for owner in dead:
                count += self._place.give_back(owner.held.values(), crashed=True)
                owner.held.clear()
            return count

    def reconnect(self) -> None:
        pass

    def close(self) -> None:
        with self._place.changed:
            if self._closed:
                return
            self._closed, self.armed = True, False
            self._place.give_back(self._owner.held.values(), crashed=False)
            self._owner.held.clear()
            self._place.owners.discard(self._owner)
            self._place.consumers.discard(self)
            self._pipe.close()


class MemorySubscription(Subscription):
    def __init__(self, place: _Place, exchange: str, pattern: str) -> None:
        self.exchange, self.pattern = exchange, pattern
        self.heard: deque[bytes] = deque(maxlen=100_000)
        self._place, self._closed = place, False

    def get(self, timeout_s: float | None) -> bytes | None:
        with self._place.changed:
            if not self._place.changed.wait_for(lambda: self.heard or self._closed, timeout_s):
                return None
            if self._closed and not self.heard:
                raise BrokerDown("memory://", "the subscription is closed")
            return self.heard.popleft()

    def close(self) -> None:
        with self._place.changed:
            self._closed = True
            self._place.ears.discard(self)
            self._place.changed.notify_all()


class MemoryInbox(MemorySubscription, Inbox):
    def __init__(self, place: _Place, exchange: str, key: str) -> None:
        super().__init__(place, exchange, "")
        self.key = key

    def close(self) -> None:
        super().close()
        with self._place.changed:
            boxes = self._place.inboxes.get((self.exchange, self.key), [])
            if self in boxes:
                boxes.remove(self)
            if not boxes:
                self._place.inboxes.pop((self.exchange, self.key), None)


@brokers.register("memory")
class MemoryBroker(MemoryChords):
    """Queues in this process."""

    name: ClassVar[str] = "memory"
    takes_lists: ClassVar[bool] = False
    features: ClassVar[Features] = Features(
        results=True, receivers_known=True, members_known=True, revokes=True, multi_host=False
    )

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(url, options)
        with _places_lock:
            self._place = _places.setdefault(url.partition("://")[2].strip("/"), _Place())

    def _chords(self) -> tuple[threading.Condition, dict[str, Count]]:
        return self._place.changed, self._place.chords

    def publish(self, messages: Sequence[Message]) -> None:
        with self._place.changed:
            routed = [(m, self._place.route(m)) for m in messages]
            for message, queue in routed:
                self._place.put(message, queue)

    def consumer(self, queues: Sequence[str], node: str = "") -> MemoryConsumer:
        return MemoryConsumer(self._place, queues, self.lease_s)

    def depth(self, queue: str) -> Depth:
        with self._place.changed:
            found = self._place.queues.get(queue) or _Queue()
            held = sum(e.queue == queue for o in self._place.owners for e in o.held.values())
            return Depth(sum(map(len, found.ready)), len(found.delayed), held)

    def peek(self, queue: str, limit: int = 20) -> list[bytes]:
        with self._place.changed:
            found = self._place.queues.get(queue) or _Queue()
            return [e.raw for e in itertools.islice(itertools.chain(*found.ready), limit)]

    def delayed(self, queue: str, limit: int = 100) -> list[tuple[float, bytes]]:
        with self._place.changed:
            found = self._place.queues.get(queue) or _Queue()
            return [(due_at, e.raw) for due_at, _, e in sorted(found.delayed)[:limit]]

    def purge(self, queue: str) -> int:
        with self._place.changed:
            found = self._place.queues.get(queue)
            if found is None:
                return 0
            self._place.queues[queue] = _Queue()
            return sum(map(len, found.ready)) + len(found.delayed)

    def queues(self) -> list[str]:
        with self._place.changed:
            return sorted(self._place.queues)

    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        with self._place.changed:
            return list(itertools.islice(reversed(self._place.quarantine), limit))

    def results_of(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        with self._place.changed:
            return [self._meta(task_id) for task_id in task_ids]

    def _meta(self, task_id: str) -> ResultMeta | None:
        meta, until = self._place.results.get(task_id, (None, None))
        if until is not None and until <= time.time():
            del self._place.results[task_id]
            return None
        return None if meta is None else decode(meta, task_id)

    def store_results(self, results: Sequence[StoredResult]) -> None:
        with self._place.changed:
            for result in results:
                self._place.keep_result(result)

    def wait_result(self, task_id: str, timeout_s: float | None) -> ResultMeta | None:
        def ready() -> ResultMeta | None:
            meta = self._meta(task_id)
            return meta if meta is not None and meta.is_ready else None

        with self._place.changed:
            return self._place.changed.wait_for(ready, timeout_s)

    def forget_results(self, task_ids: Sequence[str]) -> int:
        with self._place.changed:
            return sum(self._place.results.pop(task_id, None) is not None for task_id in task_ids)

    def broadcast(self, exchange: str, routing_key: str, raw: bytes) -> int:
        with self._place.changed:
            ears = [e for e in self._place.ears if e.exchange == exchange and hears(e.pattern, routing_key)]
            for ear in ears:
                ear.heard.append(raw)
            self._place.changed.notify_all()
            return len(ears)

    def subscribe(self, exchange: str, pattern: str = "", node: str = "") -> Subscription:
        ear = MemorySubscription(self._place, exchange, pattern)
        with self._place.changed:
            self._place.ears.add(ear)
        return ear

    def inbox(self, exchange: str, key: str) -> Inbox:
        box = MemoryInbox(self._place, exchange, key)
        with self._place.changed:
            self._place.inboxes.setdefault((exchange, key), []).append(box)
        return box

    def reply(self, exchange: str, key: str, raw: bytes) -> None:
        with self._place.changed:
            for box in self._place.inboxes.get((exchange, key), ())[:1]:
                box.heard.append(raw)
            self._place.changed.notify_all()

    def announce(self, node: str, info: dict[str, Any], ttl_s: float) -> None:
        with self._place.changed:
            self._place.members[node] = (time.time(), ttl_s, dict(info))

    def retire(self, node: str) -> None:
        with self._place.changed:
            self._place.members.pop(node, None)

    def members(self) -> list[Member]:
        now = time.time()
        with self._place.changed:
            return [
                Member(node, seen, now < seen + ttl, dict(info))
                for node, (seen, ttl, info) in sorted(self._place.members.items())
                if now < seen + ttl + 3600
            ]

    def revoke(self, task_ids: Sequence[str], ttl_s: float = 10800.0) -> None:
        with self._place.changed:
            for task_id in task_ids:
                self._place.revoked.pop(task_id, None)  # so that the newest is last
                self._place.revoked[task_id] = time.time() + ttl_s

    def revoked(self, limit: int = 50_000) -> list[str]:
        now = time.time()
        with self._place.changed:
            self._place.revoked = {i: until for i, until in self._place.revoked.items() if until > now}
            return list(itertools.islice(reversed(self._place.revoked), limit))

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass
