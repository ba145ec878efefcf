"""The memory consumer: claims and settlements under the lock of its Place.

In:  queue names.  Out: deliveries held by an owner of that Place.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Sequence

from qcore.base.wakeup import WakePipe
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.failed_tasks import FailedTaskLimits
from qcore.brokers.contract.records import Delivery, Quarantined, Settle, Settlement
from qcore.brokers.memory.state import PRIORITIES, Entry, MemoryState, Owner, Queue
from qcore.brokers.shared.fairness import PriorityFairness


class MemoryConsumer(Consumer):
    """One owner of deliveries."""

    def __init__(
        self,
        state: MemoryState,
        queues: Sequence[str],
        lease_s: float,
        limits: FailedTaskLimits,
        node: str = "",
    ) -> None:
        self.armed, self._limits = False, limits
        self._state, self._lease_s, self._node = state, lease_s, node
        self._numbers = itertools.count(1)
        self._limit: int | None = None
        self._pipe = WakePipe()
        self._closed = False
        self._next_due: float | None = None
        self._lost = False
        self._turns = PriorityFairness()
        self.queues = ()
        with state.changed:
            self._owner = Owner(lease_s, node)
            state.owners.add(self._owner)
            state.consumers.add(self)
        self.set_queues(queues)

    def set_queues(self, queues: Sequence[str]) -> None:
        with self._state.changed:
            self.queues = tuple(queues)
            for name in self.queues:
                self._state.queue(name)

    def prefetch(self, count: int) -> None:
        self._limit = count

    def claim(self, limit: int) -> list[Delivery]:
        with self._state.changed:
            if time.monotonic() >= self._owner.lease_until:
                self._switch()
            self._ripen()
            ready = [source.ready[priority] for priority in PRIORITIES for source in self._sources()]
            found: list[Delivery] = []
            for _ in range(self._turns.due(limit)):
                waiting = [entries for entries in ready if entries]
                if not waiting:
                    break
                found.append(self._hand_out(waiting[self._turns.next_of(len(waiting))].popleft()))
            for entries in ready:
                while entries and len(found) < limit:
                    found.append(self._hand_out(entries.popleft()))
            self._turns.took(len(found))
            return found

    def _sources(self) -> list[Queue]:
        """The queues to claim from, without the paused ones."""
        return [self._state.queue(name) for name in self.queues if not self._state.is_paused(name)]

    def _hand_out(self, entry: Entry) -> Delivery:
        number = next(self._numbers)
        self._owner.held[number] = entry
        return Delivery(number, entry.queue, entry.raw, entry.crashes > 0, entry.crashes + 1)

    def _ripen(self) -> None:
        """Make due delayed messages ready."""
        now, nearest = time.time(), None
        for source in self._sources():
            while source.delayed and source.delayed[0][0] <= now:
                entry = heapq.heappop(source.delayed)[2]
                entry.ready_at = now
                source.ready[entry.priority].append(entry)
            if source.delayed:
                due = source.delayed[0][0]
                nearest = due if nearest is None else min(nearest, due)
        self._next_due = nearest

    def settle(self, settlements: Sequence[Settlement]) -> list[int]:
        refused = []
        with self._state.changed:
            for s in settlements:
                for message in s.sends:
                    self._state.route(message)  # raises before anything is changed
            for s in settlements:
                entry = self._owner.held.pop(s.delivery.number, None)
                if entry is None:
                    refused.append(s.delivery.number)
                else:
                    self._end(s, entry)
        return refused

    def _end(self, s: Settlement, entry: Entry) -> None:
        state = self._state
        if s.result is not None:
            state.keep_result(s.result)
        if s.failure is not None:
            state.store_failed_task(s.failure, self._limits)
        for message in s.sends:
            state.put(message, state.route(message))
        if s.action == Settle.REQUEUE or s.action == Settle.RETURN:
            state.give_back([entry], s.action == Settle.RETURN)
        elif s.action == Settle.DELAY:
            state.hold(entry, s.due_at)
            state.ring(entry.queue)
        elif s.action == Settle.QUARANTINE:
            number = str(next(state.sequence))
            state.quarantine.append(Quarantined(number, entry.queue, s.reason, time.time(), entry.raw))

    def fds(self) -> list[int]:
        return [] if self._closed else [self._pipe.fileno()]

    def arm(self) -> None:
        with self._state.changed:
            if self.armed:
                return
            self.armed = True
            self._ripen()
            if any(ready for source in self._sources() for ready in source.ready):
                self.ring()

    def ring(self) -> None:
        self._pipe.ring()
        self.armed = False

    def disarm(self) -> None:
        with self._state.changed:
            self.armed = False
            self._pipe.drain_pipe()

    def wake(self, fd: int) -> tuple[()]:
        with self._state.changed:
            self._pipe.drain_pipe()
        return ()

    def idle_s(self) -> float:
        due = self._next_due
        return 1.0 if due is None else max(0.0, min(1.0, due - time.time()))

    def renew(self) -> bool:
        with self._state.changed:
            if self._closed:
                return False
            now = time.monotonic()
            if now >= self._owner.lease_until or self._owner not in self._state.owners:
                self._switch()
            else:
                self._owner.lease_until = now + self._lease_s
            lost, self._lost = self._lost, False
            return not lost

    def _switch(self) -> None:
        """Continue as a new owner; reap() returns the old owner's messages."""
        self._lost = True
        self._owner = Owner(self._lease_s, self._node)
        self._state.owners.add(self._owner)

    def reap(self) -> int:
        with self._state.changed:
            now = time.monotonic()
            dead = [o for o in self._state.owners if now >= o.lease_until]
            self._state.owners.difference_update(dead)
            count = 0
            for owner in dead:
                count += self._state.give_back(owner.held.values(), crashed=True)
                owner.held.clear()
            return count

    def reconnect(self) -> None:
        pass

    def close(self) -> None:
        with self._state.changed:
            if self._closed:
                return
            self._closed, self.armed = True, False
            self._state.give_back(self._owner.held.values(), crashed=False)
            self._owner.held.clear()
            self._state.owners.discard(self._owner)
            self._state.consumers.discard(self)
            self._pipe.close()
