"""What people see of a Redis database: counts, pauses, the messages that wait; and taking those out.

Nothing here is on the way of a task.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from qcore.brokers._administration import Depth, Pause, Waiting
from qcore.brokers._redis_keys import Keys
from qcore.brokers._redis_looking_scripts import DEPTHS, HELD, PAUSE, PAUSES, RESUME, TAKE_THESE
from qcore.brokers._redis_scripts import Script, unmark
from qcore.brokers.base import Broker
from qcore.times import epoch

QUEUES_AT_ONCE = 1000
READ_AT_ONCE = 500
TAKEN_AT_ONCE = 200  # each may cost a walk through a long list
CLOCK_SKEW_S = 5.0  # what is further in the future is not ready yet, or a clock is wrong


class RedisLooking(Broker):
    """Counts, pauses, messages that wait."""

    _keys: Keys

    def call(self, *command: Any) -> Any:
        raise NotImplementedError

    def run(self, script: Script, keys: tuple[Any, ...], arguments: tuple[Any, ...]) -> Any:
        raise NotImplementedError

    # --- counts

    def depth(self, queue: str) -> Depth:
        return self.depths([queue])[0]

    def depths(self, queues: Sequence[str]) -> list[Depth]:
        keys = self._keys
        head = (keys.prefix, keys.sep, keys.delayed_prefix, len(keys.steps), *keys.steps)
        counts: list[Any] = []
        for start in range(0, len(queues), QUEUES_AT_ONCE):
            counts += self.run(DEPTHS, (), (*head, *queues[start : start + QUEUES_AT_ONCE]))
        held = self._held(queues)
        now, parts = time.time(), zip(counts[::3], counts[1::3], counts[2::3], strict=True)
        return [
            Depth(ready, delayed, held.get(queue, 0), _oldest_at(times, now) if times else None)
            for queue, (ready, delayed, times) in zip(queues, parts, strict=True)
        ]

    def _held(self, queues: Sequence[str]) -> dict[str, int]:
        """How many messages of each queue are in flight."""
        keys = self._keys
        pairs = self.run(HELD, (keys.owners,), (keys.ledger, keys.claim, keys.watched))
        counts = dict(zip((name.decode() for name in pairs[::2]), pairs[1::2], strict=True))
        if not counts:
            return {}
        return {queue: sum(counts.get(name, 0) for name in keys.lists(queue)) for queue in queues}

    def held_by_others(self) -> int | None:
        return int(self.call("HLEN", self._keys.unacked))

    # --- pauses

    def _pause_keys(self, queue: str) -> tuple[str, ...]:
        keys = self._keys
        return (keys.paused, keys.paused_until, keys.pause_notes, keys.bell(queue))

    def pause(self, queue: str, reason: str = "", by: str = "", for_s: float | None = None) -> None:
        note = msgspec.json.encode([reason, by])
        self.run(PAUSE, self._pause_keys(queue), (queue, note, "" if for_s is None else repr(float(for_s))))

    def resume(self, queue: str) -> None:
        self.run(RESUME, self._pause_keys(queue), (queue,))

    def pauses(self) -> list[Pause]:
        now, names, untils, notes = self.run(PAUSES, self._pause_keys("")[:3], ())
        ends = {queue: float(at) for queue, at in zip(untils[::2], untils[1::2], strict=True)}
        noted = dict(zip(notes[::2], notes[1::2], strict=True))
        found = []
        for name in sorted(names):
            until = ends.get(name)
            if until is not None and until <= float(now):
                continue  # the next claim forgets it
            at, _, note = noted.get(name, b"").partition(b" ")
            reason, by = msgspec.json.decode(note) if note else ("", "")
            queue = name.decode("utf-8", "replace")
            found.append(Pause(queue, reason, by, float(at) if at else None, until))
        return found

    # --- messages

    def waiting(self, queue: str) -> Iterator[Waiting]:
        keys = self._keys
        for place, (step, name) in enumerate(zip(keys.steps, keys.lists(queue), strict=True), 1):
            seen = 0
            while some := self.call("LRANGE", name, -seen - READ_AT_ONCE, -seen - 1):
                for behind, value in enumerate(reversed(some), seen + 1):
                    raw, returns = unmark(value)
                    yield Waiting(queue, raw, step, None, returns, (place, behind, value, ""))
                seen += len(some)
        zset, start = keys.delayed(queue), 0
        steps = dict(zip(keys.lists(queue), keys.steps, strict=True))
        while held := self.call("ZRANGE", zset, start, start + READ_AT_ONCE - 1, "WITHSCORES"):
            for member, score in zip(held[::2], held[1::2], strict=True):
                head, _, value = member.partition(b"\0")
                raw, returns = unmark(value)
                step = steps.get(head[16:].decode("utf-8", "replace"), 0)
                yield Waiting(queue, raw, step, float(score), returns, (0, 0, member, score.decode()))
            start += READ_AT_ONCE

    def drop_these(self, found: Sequence[Waiting]) -> list[bool]:
        return self._take(found, "")

    def move_these(self, found: Sequence[Waiting], target: str) -> list[bool]:
        if any(one.queue == target for one in found):
            return [False] * len(found)
        self.call("SADD", self._keys.queues, target)
        return self._take(found, target)

    def _take(self, found: Sequence[Waiting], target: str) -> list[bool]:
        """Take out what is of one queue or of several; '' deletes it."""
        keys, done = self._keys, list[bool]()
        start = 0
        while start < len(found):
            source, end = found[start].queue, start
            while end < len(found) and end - start < TAKEN_AT_ONCE and found[end].queue == source:
                end += 1
            to = target or source
            places = (*keys.lists(source), *keys.lists(to), keys.delayed(source), keys.delayed(to))
            head = (len(keys.steps), keys.bell(target) if target else "", os.urandom(16).hex())
            values = [part for one in found[start:end] for part in one.handle]
            done += map(bool, self.run(TAKE_THESE, (*places, keys.sequence), (*head, *values)))
            start = end
        return done


def _oldest_at(times: bytes, now: float) -> float | None:
    """Since when the oldest of these has been ready: DEPTHS says how they are written."""
    found = []
    for one in times.decode("ascii", "replace").split(";"):
        made_ms, _, eta = one.partition(",")
        since = float(made_ms) / 1000 if made_ms else 0.0
        try:
            since = max(since, epoch(eta)) if eta else since
        except (ValueError, OverflowError):
            continue
        if 0.0 < since <= now + CLOCK_SKEW_S:
            found.append(min(since, now))
    return min(found, default=None)
