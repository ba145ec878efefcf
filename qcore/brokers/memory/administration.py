"""Operations on queues and single messages, in memory."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from qcore.brokers.contract.administration import Administration, Depth, Holder, Pause, Waiting
from qcore.brokers.contract.records import Message, Quarantined
from qcore.brokers.memory.state import PRIORITIES, Entry, MemoryState, Queue
from qcore.brokers.shared.message_ids import is_one_of, priority_of


class MemoryAdministration(Administration):
    """The queues of one process."""

    def __init__(self, state: MemoryState) -> None:
        super().__init__("memory")
        self._state = state

    def depth(self, queue: str) -> Depth:
        with self._state.changed:
            found = self._state.queues.get(queue) or Queue()
            held = sum(e.queue == queue for o in self._state.owners for e in o.held.values())
            heads = [entries[0].ready_at for entries in found.ready if entries]
            return Depth(sum(map(len, found.ready)), len(found.delayed), held, min(heads, default=None))

    def peek(self, queue: str, limit: int = 20) -> list[bytes]:
        with self._state.changed:
            found = self._state.queues.get(queue) or Queue()
            return [e.raw for e in itertools.islice(itertools.chain(*found.ready), limit)]

    def delayed(self, queue: str, limit: int = 100) -> list[tuple[float, bytes]]:
        with self._state.changed:
            found = self._state.queues.get(queue) or Queue()
            return [(due_at, e.raw) for due_at, _, e in sorted(found.delayed)[:limit]]

    def holder(self, task_id: str) -> Holder | None:
        with self._state.changed:
            for owner in self._state.owners:
                for entry in owner.held.values():
                    if is_one_of(entry.raw, {task_id}):
                        until = time.time() + owner.lease_until - time.monotonic()
                        return Holder(entry.queue, entry.raw, owner.node, until)
        return None

    def purge(self, queue: str) -> int:
        with self._state.changed:
            found = self._state.queues.get(queue)
            if found is None:
                return 0
            self._state.queues[queue] = Queue()
            return sum(map(len, found.ready)) + len(found.delayed)

    def queues(self) -> list[str]:
        with self._state.changed:
            return sorted(self._state.queues)

    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        with self._state.changed:
            return list(itertools.islice(reversed(self._state.quarantine), limit))

    def pause(
        self,
        queue: str,
        reason: str = "",
        by: str = "",
        for_s: float | None = None,
        told: Sequence[str] = (),
    ) -> None:
        now = time.time()
        until = None if for_s is None else now + for_s
        with self._state.changed:
            self._state.pauses[queue] = Pause(queue, reason, by, now, until)

    def resume(self, queue: str) -> None:
        with self._state.changed:
            self._state.pauses.pop(queue, None)
            self._state.ring(queue)

    def pauses(self) -> list[Pause]:
        with self._state.changed:
            held = sorted(self._state.pauses.items())
            return [pause for queue, pause in held if self._state.is_paused(queue)]

    def waiting(self, queue: str) -> Iterator[Waiting]:
        with self._state.changed:
            source = self._state.queue(queue)
            found = [(None, entry) for priority in PRIORITIES for entry in source.ready[priority]]
            held = [(due_at, entry) for due_at, _, entry in sorted(source.delayed, key=lambda one: one[:2])]
        for due_at, entry in [*found, *held]:
            yield Waiting(queue, entry.raw, entry.priority, due_at, entry.crashes, entry)

    def drop_these(self, found: Sequence[Waiting]) -> list[bool]:
        with self._state.changed:
            return [self._pick(one) for one in found]

    def move_these(self, found: Sequence[Waiting], target: str) -> list[bool]:
        done = []
        with self._state.changed:
            for one in found:
                done.append(one.queue != target and self._pick(one))
                if done[-1]:
                    self._put_into(target, one.handle, one.due_at)
            self._state.ring(target)
        return done

    def _pick(self, one: Waiting) -> bool:
        """Remove exactly the entry that waiting() returned."""
        source, entry = self._state.queue(one.queue), one.handle
        for entries in source.ready:
            for state, other in enumerate(entries):
                if other is entry:
                    del entries[state]
                    return True
        left = [held for held in source.delayed if held[2] is not entry]
        found = len(left) < len(source.delayed)
        if found:
            heapq.heapify(left)
            source.delayed = left
        return found

    def _put_into(self, target: str, entry: Entry, due_at: float | None) -> None:
        entry.queue = target
        if due_at is None:
            self._state.append(entry)
        else:
            self._state.hold(entry, due_at)

    def move(
        self, source: str, target: str, limit: int | None = None, ids: Sequence[str] | None = None
    ) -> int:
        if source == target:
            return 0
        with self._state.changed:
            found = self._take_out(source, limit, ids)
            for due_at, entry in found:
                self._put_into(target, entry, due_at)
            self._state.ring(target)
            return len(found)

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        with self._state.changed:
            return len(self._take_out(queue, None, ids))

    def _take_out(
        self, queue: str, limit: int | None, ids: Sequence[str] | None
    ) -> list[tuple[float | None, Entry]]:
        """The first `limit` waiting messages, each with the time until which it is delayed."""
        source, wanted = self._state.queue(queue), None if ids is None else set(ids)
        found: list[tuple[float | None, Entry]] = []

        def take(entry: Entry, due_at: float | None) -> bool:
            if limit is not None and len(found) >= limit:
                return False
            if wanted is not None and not is_one_of(entry.raw, wanted):
                return False
            found.append((due_at, entry))
            return True

        for priority in PRIORITIES:
            _keep(source.ready[priority], lambda entry: not take(entry, None))
        left = [one for one in sorted(source.delayed) if not take(one[2], one[0])]
        heapq.heapify(left)
        source.delayed = left
        return found

    def replay(self, entry_id: str) -> bool:
        with self._state.changed:
            one = self._quarantined(entry_id)
            if one is None:
                return False
            self._state.quarantine.remove(one)
            self._state.put(Message(one.raw, queue=one.queue, priority=priority_of(one.raw)), one.queue)
            return True

    def forget(self, entry_id: str) -> bool:
        with self._state.changed:
            one = self._quarantined(entry_id)
            if one is not None:
                self._state.quarantine.remove(one)
            return one is not None

    def _quarantined(self, entry_id: str) -> Quarantined | None:
        return next((q for q in self._state.quarantine if q.id == entry_id), None)

    def audit(self, entry: bytes) -> None:
        with self._state.changed:
            self._state.audit.append(entry)

    def audited(self, limit: int = 100) -> list[bytes]:
        with self._state.changed:
            return list(self._state.audit)[::-1][:limit]


def _keep(entries: deque[Entry], wanted: Callable[[Entry], bool]) -> None:
    """Remove the entries that are not wanted, in place."""
    for _ in range(len(entries)):
        entry = entries.popleft()
        if wanted(entry):
            entries.append(entry)
