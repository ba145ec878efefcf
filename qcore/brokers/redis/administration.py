"""Operations on queues and single messages on Redis.

A script moves messages, so each message is in one place at any instant. The messages of given tasks
are searched for here, since Lua never decodes a message; each is then taken by its value.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec

from qcore.base.times import epoch
from qcore.brokers.contract.administration import AUDIT_SIZE, Administration, Depth, Holder, Pause, Waiting
from qcore.brokers.contract.records import Quarantined
from qcore.brokers.redis.administration_scripts import (
    DEPTHS,
    HELD,
    MOVE,
    MOVE_THESE,
    PAUSE,
    PAUSES,
    REPLAY,
    RESUME,
    TAKE_THESE,
    UNACKED,
)
from qcore.brokers.redis.bus import bindings
from qcore.brokers.redis.connection import SharedConnection
from qcore.brokers.redis.keys import Keys, glob_safe
from qcore.brokers.redis.scripts import unmark
from qcore.brokers.shared.message_ids import is_one_of, priority_of
from qcore.errors import Unsupported

SCAN_S = 2.0  # the longest time spent on scanning for binding tables
MOST_OF_CELERY = 10_000  # messages held by Celery's workers that are searched
AT_ONCE = 500  # messages per script call, so that no call blocks the server for long


class RedisAdministration(Administration):
    """The queues of one database."""

    def __init__(self, shared: SharedConnection, keys: Keys) -> None:
        super().__init__("redis")
        self._shared, self._keys = shared, keys

    def peek(self, queue: str, limit: int = 20) -> list[bytes]:
        found: list[bytes] = []
        for name in self._keys.lists(queue):
            if len(found) < limit:
                found += [
                    unmark(raw)[0] for raw in self._shared.call("LRANGE", name, len(found) - limit, -1)[::-1]
                ]
        return found

    def delayed(self, queue: str, limit: int = 100) -> list[tuple[float, bytes]]:
        shelved = self._shared.call("ZRANGE", self._keys.delayed(queue), 0, limit - 1, "WITHSCORES")
        members, scores = shelved[::2], shelved[1::2]
        return [(float(s), unmark(m.partition(b"\0")[2])[0]) for m, s in zip(members, scores, strict=True)]

    def purge(self, queue: str) -> int:
        keys, lists = self._keys, self._keys.lists(queue)
        with self._shared.lock:
            counts = [("LLEN", name) for name in lists]
            gone = ("DEL", *lists, keys.delayed(queue))
            replies = self._shared.link.safe_calls([*counts, ("ZCARD", keys.delayed(queue)), gone])
        return sum(replies[:-1])

    def queues(self) -> list[str]:
        names = {name.decode("utf-8", "replace") for name in self._shared.call("SMEMBERS", self._keys.queues)}
        until, cursor = time.monotonic() + SCAN_S, b"0"
        pattern = glob_safe(self._keys.binding("")) + "*"
        while True:
            cursor, tables = self._shared.call("SCAN", cursor, "MATCH", pattern, "COUNT", 5000, "TYPE", "set")
            for table in tables:
                # Control, reply and event queues hold no tasks.
                if not table.endswith((b".pidbox", b".celeryev")):
                    names.update(queue for _, _, queue in bindings(self._shared, self._keys, table))
            if cursor == b"0" or time.monotonic() > until:
                return sorted(names)

    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        found = []
        for number, pairs in self._shared.call("XREVRANGE", self._keys.quarantine, "+", "-", "COUNT", limit):
            fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
            queue, reason = fields[b"queue"].decode(), fields[b"reason"].decode()
            at = int(number.partition(b"-")[0]) / 1000
            found.append(Quarantined(number.decode(), queue, reason, at, fields[b"raw"]))
        return found

    # --- messages

    def move(
        self, source: str, target: str, limit: int | None = None, ids: Sequence[str] | None = None
    ) -> int:
        if source == target:
            return 0
        keys = self._keys
        places = (*keys.lists(source), *keys.lists(target), keys.delayed(source), keys.delayed(target))
        head = (len(keys.steps), keys.bell(target))
        self._shared.call("SADD", keys.queues, target)
        count = 0
        if ids is not None:
            found = list(self._find(source, set(ids)))[:limit]
            for start in range(0, len(found), AT_ONCE):
                values = [value for one in found[start : start + AT_ONCE] for value in one]
                count += int(self._shared.run(MOVE_THESE, (*places, keys.sequence), (*head, *values)))
            return count
        # At most the present length: a publisher may be as fast as the move.
        left = self._size(source) if limit is None else limit
        while left > 0:
            moved = int(self._shared.run(MOVE, (*places, keys.sequence), (*head, min(left, AT_ONCE))))
            if not moved:
                break
            count, left = count + moved, left - moved
        return count

    def _size(self, queue: str) -> int:
        counts = [self._shared.call("LLEN", name) for name in self._keys.lists(queue)]
        return int(sum(counts)) + int(self._shared.call("ZCARD", self._keys.delayed(queue)))

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        lists, count = self._keys.lists(queue), 0
        for place, value, _ in list(self._find(queue, set(ids))):
            if place:
                count += int(self._shared.call("LREM", lists[place - 1], -1, value))
            else:
                count += int(self._shared.call("ZREM", self._keys.delayed(queue), value))
        return count

    def _find(self, queue: str, task_ids: Collection[str]) -> Iterator[tuple[int, bytes, str]]:
        """The messages of these tasks: which list (0: the delayed set), value, score."""
        for place, name in enumerate(self._keys.lists(queue), 1):
            seen = 0
            while some := self._shared.call("LRANGE", name, -seen - AT_ONCE, -seen - 1):
                yield from ((place, raw, "") for raw in reversed(some) if is_one_of(raw, task_ids))
                seen += len(some)
        zset, start = self._keys.delayed(queue), 0
        while held := self._shared.call("ZRANGE", zset, start, start + AT_ONCE - 1, "WITHSCORES"):
            for member, score in zip(held[::2], held[1::2], strict=True):
                if is_one_of(member.partition(b"\0")[2], task_ids):
                    yield 0, member, score.decode()
            start += AT_ONCE

    def replay(self, entry_id: str) -> bool:
        if not _is_entry(entry_id):
            return False
        for number, pairs in self._shared.call("XRANGE", self._keys.quarantine, entry_id, entry_id):
            fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
            queue, raw = fields[b"queue"].decode(), fields[b"raw"]
            name = self._keys.list_for(queue, priority_of(raw))
            arguments = (number, name, self._keys.bell(queue), raw)
            return bool(self._shared.run(REPLAY, (self._keys.quarantine,), arguments))
        return False

    def forget(self, entry_id: str) -> bool:
        return _is_entry(entry_id) and bool(self._shared.call("XDEL", self._keys.quarantine, entry_id))

    # --- audit log

    def audit(self, entry: bytes) -> None:
        self._shared.call("XADD", self._keys.audit, "MAXLEN", AUDIT_SIZE, "*", "entry", entry)

    def audited(self, limit: int = 100) -> list[bytes]:
        found = self._shared.call("XREVRANGE", self._keys.audit, "+", "-", "COUNT", limit)
        return [fields[1] for _, fields in found]

    # --- counts

    def depth(self, queue: str) -> Depth:
        return self.depths([queue])[0]

    def depths(self, queues: Sequence[str]) -> list[Depth]:
        keys = self._keys
        head = (keys.prefix, keys.sep, keys.delayed_prefix, len(keys.steps), *keys.steps)
        counts: list[Any] = []
        for start in range(0, len(queues), QUEUES_AT_ONCE):
            counts += self._shared.run(DEPTHS, (), (*head, *queues[start : start + QUEUES_AT_ONCE]))
        held = self._held(queues)
        theirs, _ = self._counts_of_celery()
        now, parts = time.time(), zip(counts[::3], counts[1::3], counts[2::3], strict=True)
        return [
            Depth(
                ready,
                delayed,
                None if theirs is None else held.get(queue, 0) + theirs[queue],
                _oldest_at(times, now) if times else None,
            )
            for queue, (ready, delayed, times) in zip(queues, parts, strict=True)
        ]

    def _held(self, queues: Sequence[str]) -> dict[str, int]:
        """The number of messages of each queue in flight."""
        keys = self._keys
        pairs = self._shared.run(HELD, (keys.owners,), (keys.ledger, keys.claim, keys.watched))
        counts = dict(zip((name.decode() for name in pairs[::2]), pairs[1::2], strict=True))
        if not counts:
            return {}
        return {queue: sum(counts.get(name, 0) for name in keys.lists(queue)) for queue in queues}

    def holder(self, task_id: str) -> Holder | None:
        keys, call = self._keys, self._shared.call
        for one in call("ZRANGE", keys.owners, 0, -1):
            owner = one.decode()
            fields = call("HGETALL", keys.ledger + owner)
            held = [
                (field.partition(b" ")[2], raw) for field, raw in zip(fields[::2], fields[1::2], strict=True)
            ]
            for name in call("SMEMBERS", keys.watched + owner):
                claimed = f"{keys.claim}{owner} {name.decode()}"
                held += [(name, raw) for raw in call("LRANGE", claimed, 0, -1)]
            for name, raw in held:
                if is_one_of(raw, {task_id}):
                    left_s = max(int(call("TTL", keys.lease + owner)), 0)
                    queue, node = keys.queue_of(name.decode()), owner.partition(".")[2]
                    return Holder(queue, unmark(raw)[0], node, time.time() + left_s)
        return self._held_by_celery(task_id)

    def _held_by_celery(self, task_id: str) -> Holder | None:
        """Celery's workers keep [message, exchange, queue] by a number of their own."""
        if int(self._shared.call("HLEN", self._keys.unacked)) > MOST_OF_CELERY:
            raise Unsupported(
                "redis", f"search more than {MOST_OF_CELERY:,} messages that Celery's workers hold"
            )
        mark = task_id.encode()
        for value in self._shared.call("HGETALL", self._keys.unacked)[1::2]:
            if mark not in value:
                continue
            try:
                message, _, queue = msgspec.json.decode(value)
            except (msgspec.DecodeError, ValueError, TypeError):
                continue  # not written by Celery
            raw = msgspec.json.encode(message)
            if is_one_of(raw, {task_id}):
                return Holder(str(queue), raw, by_celery=True)
        return None

    def held_by_others(self) -> int | None:
        theirs, unknown = self._counts_of_celery()
        return unknown if theirs is None or unknown else 0

    def _counts_of_celery(self) -> tuple[Counter[str] | None, int]:
        """The number of messages that Celery's workers hold, by queue, and of those without one; None and all
        of them: there are too many to read."""
        keys, found, unknown = self._keys, Counter[str](), 0
        size = int(self._shared.call("HLEN", keys.unacked))
        if size > MOST_UNACKED:
            return None, size
        cursor, routes = b"0", Counter[tuple[str, str]]()
        while size:
            cursor, *some = self._shared.run(UNACKED, (keys.unacked,), (cursor, UNACKED_AT_ONCE))
            for exchange, route, count in zip(some[::3], some[1::3], some[2::3], strict=True):
                routes[_unescaped(exchange), _unescaped(route)] += count
            if cursor == b"0":
                break
        for (exchange, route), count in routes.items():
            queue = self._queue_of(exchange, route)
            if queue:
                found[queue] += count
            else:
                unknown += count
        return found, unknown

    def _queue_of(self, exchange: str, route: str) -> str:
        """The queue that a message with this exchange and routing key came from, by the bindings; Celery's
        default exchange names the queue itself."""
        if not exchange:
            return route
        bound = bindings(self._shared, self._keys, self._keys.binding(exchange))
        found = {queue for key, _, queue in bound if key == route}
        return found.pop() if len(found) == 1 else route if route in found or not bound else ""

    # --- pauses

    def _pause_keys(self, queue: str) -> tuple[str, ...]:
        keys = self._keys
        return (keys.paused, keys.paused_until, keys.pause_notes, keys.bell(queue))

    def pause(
        self,
        queue: str,
        reason: str = "",
        by: str = "",
        for_s: float | None = None,
        told: Sequence[str] = (),
    ) -> None:
        note = msgspec.json.encode([reason, by, *told])
        self._shared.run(
            PAUSE, self._pause_keys(queue), (queue, note, "" if for_s is None else repr(float(for_s)))
        )

    def resume(self, queue: str) -> None:
        self._shared.run(RESUME, self._pause_keys(queue), (queue,))

    def pauses(self) -> list[Pause]:
        now, names, untils, notes = self._shared.run(PAUSES, self._pause_keys("")[:3], ())
        ends = {queue: float(at) for queue, at in zip(untils[::2], untils[1::2], strict=True)}
        noted = dict(zip(notes[::2], notes[1::2], strict=True))
        found = []
        for name in sorted(names):
            until = ends.get(name)
            if until is not None and until <= float(now):
                continue  # expired; the next claim deletes it
            at, _, note = noted.get(name, b"").partition(b" ")
            reason, by, *told = msgspec.json.decode(note) if note else ("", "")
            queue = name.decode("utf-8", "replace")
            found.append(Pause(queue, reason, by, float(at) if at else None, until, tuple(told)))
        return found

    # --- messages

    def waiting(self, queue: str) -> Iterator[Waiting]:
        keys = self._keys
        for place, (step, name) in enumerate(zip(keys.steps, keys.lists(queue), strict=True), 1):
            seen = 0
            while some := self._shared.call("LRANGE", name, -seen - READ_AT_ONCE, -seen - 1):
                for behind, value in enumerate(reversed(some), seen + 1):
                    raw, returns = unmark(value)
                    yield Waiting(queue, raw, step, None, returns, (place, behind, value, ""))
                seen += len(some)
        zset, start = keys.delayed(queue), 0
        steps = dict(zip(keys.lists(queue), keys.steps, strict=True))
        while held := self._shared.call("ZRANGE", zset, start, start + READ_AT_ONCE - 1, "WITHSCORES"):
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
        self._shared.call("SADD", self._keys.queues, target)
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
            done += map(bool, self._shared.run(TAKE_THESE, (*places, keys.sequence), (*head, *values)))
            start = end
        return done


def _is_entry(text: str) -> bool:
    """Whether the server accepts it as the id of a stream entry."""
    first, _, second = text.partition("-")
    return text.isascii() and first.isdigit() and second.isdigit() and len(text) < 40


QUEUES_AT_ONCE = 1000


#: messages held by Celery's workers that are read for their queues, and how many of them in one call
MOST_UNACKED, UNACKED_AT_ONCE = 10_000, 200


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


def _unescaped(text: bytes) -> str:
    """A JSON string without its quotes as text."""
    try:
        return str(msgspec.json.decode(b'"' + text + b'"'))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return text.decode("utf-8", "replace")
