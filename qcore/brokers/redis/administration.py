"""Operations on queues and single messages on Redis, and publishing once.

A script moves messages, so each message is in one place at any instant. The messages of given tasks
are searched for here, since Lua never decodes a message; each is then taken by its value.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec

from qcore.base.crashpoints import crashpoint
from qcore.base.times import epoch
from qcore.brokers.base import Broker
from qcore.brokers.contract.administration import AUDIT_SIZE, Depth, Pause, Waiting
from qcore.brokers.contract.records import Message
from qcore.brokers.redis.administration_scripts import (
    DEPTHS,
    HELD,
    MOVE,
    MOVE_THESE,
    PAUSE,
    PAUSES,
    PUBLISH_ONCE,
    REPLAY,
    RESUME,
    TAKE_THESE,
)
from qcore.brokers.redis.keys import Keys
from qcore.brokers.redis.scripts import Script, unmark
from qcore.brokers.shared.message_ids import is_one_of, priority_of

AT_ONCE = 500  # messages per script call, so that no call blocks the server for long


class RedisAdministration(Broker):
    """Move, drop, replay; and publish once."""

    def _route(self, message: Message) -> list[str]:
        raise NotImplementedError

    def _published_to(self, queues: Sequence[str]) -> None:
        raise NotImplementedError

    # --- messages

    def move(
        self, source: str, target: str, limit: int | None = None, ids: Sequence[str] | None = None
    ) -> int:
        if source == target:
            return 0
        keys = self._keys
        places = (*keys.lists(source), *keys.lists(target), keys.delayed(source), keys.delayed(target))
        head = (len(keys.steps), keys.bell(target))
        self.call("SADD", keys.queues, target)
        count = 0
        if ids is not None:
            found = list(self._find(source, set(ids)))[:limit]
            for start in range(0, len(found), AT_ONCE):
                values = [value for one in found[start : start + AT_ONCE] for value in one]
                count += int(self.run(MOVE_THESE, (*places, keys.sequence), (*head, *values)))
            return count
        # At most the present length: a publisher may be as fast as the move.
        left = self._size(source) if limit is None else limit
        while left > 0:
            moved = int(self.run(MOVE, (*places, keys.sequence), (*head, min(left, AT_ONCE))))
            if not moved:
                break
            count, left = count + moved, left - moved
        return count

    def _size(self, queue: str) -> int:
        counts = [self.call("LLEN", name) for name in self._keys.lists(queue)]
        return int(sum(counts)) + int(self.call("ZCARD", self._keys.delayed(queue)))

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        lists, count = self._keys.lists(queue), 0
        for place, value, _ in list(self._find(queue, set(ids))):
            if place:
                count += int(self.call("LREM", lists[place - 1], -1, value))
            else:
                count += int(self.call("ZREM", self._keys.delayed(queue), value))
        return count

    def _find(self, queue: str, task_ids: Collection[str]) -> Iterator[tuple[int, bytes, str]]:
        """The messages of these tasks: which list (0: the delayed set), value, score."""
        for place, name in enumerate(self._keys.lists(queue), 1):
            seen = 0
            while some := self.call("LRANGE", name, -seen - AT_ONCE, -seen - 1):
                yield from ((place, raw, "") for raw in reversed(some) if is_one_of(raw, task_ids))
                seen += len(some)
        zset, start = self._keys.delayed(queue), 0
        while held := self.call("ZRANGE", zset, start, start + AT_ONCE - 1, "WITHSCORES"):
            for member, score in zip(held[::2], held[1::2], strict=True):
                if is_one_of(member.partition(b"\0")[2], task_ids):
                    yield 0, member, score.decode()
            start += AT_ONCE

    def replay(self, entry_id: str) -> bool:
        if not _is_entry(entry_id):
            return False
        for number, pairs in self.call("XRANGE", self._keys.quarantine, entry_id, entry_id):
            fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
            queue, raw = fields[b"queue"].decode(), fields[b"raw"]
            name = self._keys.list_for(queue, priority_of(raw))
            arguments = (number, name, self._keys.bell(queue), raw)
            return bool(self.run(REPLAY, (self._keys.quarantine,), arguments))
        return False

    def forget(self, entry_id: str) -> bool:
        return _is_entry(entry_id) and bool(self.call("XDEL", self._keys.quarantine, entry_id))

    # --- audit log

    def audit(self, entry: bytes) -> None:
        self.call("XADD", self._keys.audit, "MAXLEN", AUDIT_SIZE, "*", "entry", entry)

    def audited(self, limit: int = 100) -> list[bytes]:
        found = self.call("XREVRANGE", self._keys.audit, "+", "-", "COUNT", limit)
        return [fields[1] for _, fields in found]

    # --- once

    def first_time(self, key: str, ttl_s: float) -> bool:
        ttl_ms = max(int(ttl_s * 1000), 1)
        return self.call("SET", self._keys.said(key), "1", "PX", ttl_ms, "NX") is not None

    def publish_once(self, message: Message, key: str, task_id: str, ttl_s: float) -> str:
        keys, places = self._keys, list[Any]()
        due = "" if message.due_at is None else repr(message.due_at)
        queues = self._route(message)
        for queue in queues:
            name = keys.list_for(queue, message.priority)
            places += (keys.delayed(queue), keys.bell(queue), due, name, message.raw)
        crashpoint("before_publish")
        arguments = (task_id, max(1, int(ttl_s * 1000)), *places)
        owner = self.run(PUBLISH_ONCE, (keys.once(key), keys.sequence), arguments)
        self._published_to(queues)
        crashpoint("published")
        return str(owner.decode())

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
        """The number of messages of each queue in flight."""
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
                continue  # expired; the next claim deletes it
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
        """Remove messages of one or several queues; target '' deletes them."""
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


def _is_entry(text: str) -> bool:
    """Whether the server accepts it as the id of a stream entry."""
    first, _, second = text.partition("-")
    return text.isascii() and first.isdigit() and second.isdigit() and len(text) < 40


QUEUES_AT_ONCE = 1000


READ_AT_ONCE = 500


TAKEN_AT_ONCE = 200  # each may cost a scan of a long list


CLOCK_SKEW_S = 5.0  # times further in the future: not ready yet, or a clock is wrong


def _oldest_at(times: bytes, now: float) -> float | None:
    """Since when the oldest of these has been ready; DEPTHS describes the format."""
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
