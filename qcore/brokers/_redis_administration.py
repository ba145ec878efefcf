"""What operators do with queues and single messages on Redis, and publishing once.

Moving is by script, so each message is in one place at any instant; looking for the messages of some
tasks is done here, since Lua never decodes a message, and then each is taken by its value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from qcore.brokers._audit import AUDIT_SIZE
from qcore.brokers._redis_administration_scripts import MOVE, MOVE_THESE, PUBLISH_ONCE, REPLAY
from qcore.brokers._redis_looking import RedisLooking
from qcore.brokers._waiting import is_one_of, priority_of
from qcore.brokers.base import Message
from qcore.crashpoints import crashpoint

AT_ONCE = 500  # messages to a script, so that none holds the server for long


class RedisAdministration(RedisLooking):
    """Move, drop, replay; and publishing once."""

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
        # No further than what is there now: somebody may publish as fast as we move.
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
        """Where the messages of these tasks are: which list (0: the delayed set), value, score."""
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

    # --- what people changed

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


def _is_entry(text: str) -> bool:
    """Whether the server takes it for the id of an entry of a stream."""
    first, _, second = text.partition("-")
    return text.isascii() and first.isdigit() and second.isdigit() and len(text) < 40
