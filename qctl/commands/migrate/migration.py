"""Move messages from one broker to another: publish at the target, then acknowledge at the source.

In:  two brokers and the queues.  Out: counts.  If the process is killed, a message is at the source, at the
target, or at both; it is never lost. A message at both was held at that moment, so the source redelivers
it, flagged as one that may have been started.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from qcore.brokers.base import Broker
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.records import Delivery, Message, Settlement
from qcore.errors import Malformed
from qcore.wire import envelope
from qcore.wire.envelope import Envelope

BATCH = 100
PAUSE_S = 0.1


class Moved(msgspec.Struct):
    """Counts for one queue."""

    source: str
    target: str
    moved: int = 0
    delayed: int = 0
    left: int = 0  # messages of other tasks


class Migration:
    """One migration; queues maps names at the source to names at the target."""

    def __init__(
        self,
        source: Broker,
        target: Broker,
        queues: Mapping[str, str],
        tasks: Sequence[str] = (),
        limit: int | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        self._source, self._target, self._tasks = source, target, set(tasks)
        self._limit, self._progress = limit, progress
        self.queues = {name: Moved(name, to) for name, to in queues.items()}

    @property
    def done(self) -> int:
        return sum(q.moved + q.delayed for q in self.queues.values())

    def run(self, patience_s: float, forever: bool) -> None:
        """Move until no message arrives for patience_s. Raises BrokerDown; held messages then go back."""
        consumer = self._source.consumer(list(self.queues))
        try:
            last = time.monotonic()
            while not self._is_full():
                if self._batch(consumer):
                    last = time.monotonic()
                elif not forever and time.monotonic() - last >= patience_s:
                    break
                else:
                    time.sleep(PAUSE_S)
        finally:
            consumer.close()  # returns messages of other tasks to their queues
        if self._source.features.moves:
            for moved in self.queues.values():
                self._move_delayed(moved)

    def _is_full(self) -> bool:
        return self._limit is not None and self.done >= self._limit

    def _room(self) -> int:
        return BATCH if self._limit is None else min(BATCH, self._limit - self.done)

    def _batch(self, consumer: Consumer) -> bool:
        """Move one batch; return whether there was one."""
        held = consumer.claim(self._room())
        wanted = []
        for delivery in held:
            found = _read(delivery.raw)
            if self._wants(found):
                wanted.append((delivery, found))
            else:
                self.queues[delivery.queue].left += 1
        self._target.publish([self._message(d, e) for d, e in wanted])
        consumer.settle([Settlement(d) for d, _ in wanted])
        for delivery, _ in wanted:
            self.queues[delivery.queue].moved += 1
        self._progress(self.done)
        return bool(held)

    def _wants(self, found: Envelope | None) -> bool:
        return not self._tasks or (found is not None and found.headers.get("task") in self._tasks)

    def _message(self, delivery: Delivery, found: Envelope | None) -> Message:
        priority = (found.properties.priority or 0) if found is not None else 0
        return Message(delivery.raw, self.queues[delivery.queue].target, priority=priority)

    def _move_delayed(self, moved: Moved) -> None:
        while not self._is_full():
            batch = [
                (due_at, raw, found)
                for due_at, raw in self._source.administration.delayed(moved.source, self._room())
                if (found := _read(raw)) is not None and self._wants(found) and found.headers.get("id")
            ]
            if not batch:
                return
            self._target.publish(
                [
                    Message(raw, moved.target, priority=found.properties.priority or 0, due_at=due_at)
                    for due_at, raw, found in batch
                ]
            )
            dropped = self._source.administration.drop(
                moved.source, [str(found.headers["id"]) for _, _, found in batch]
            )
            moved.delayed += len(batch)
            self._progress(self.done)
            if not dropped:
                return  # another consumer claimed them meanwhile


def _read(raw: bytes) -> Envelope | None:
    """The envelope; None for malformed bytes, which are moved unchanged."""
    try:
        return envelope.decode(raw)
    except Malformed:
        return None
