"""Count the members of chords in Redis, with Celery's keys and Celery's rules.

In:  parts.  Out: complete chords.  For a group the keys are `celery-taskset-meta-<gid>` with the suffixes
`.s` the size, `.j` the entries, `.d` the counted members, `.t` members added later, `.c` the claim of a
Celery worker that sends the body, then "done". Celery's workers and ours may count members of the same
chord. Our claim is the key `.q`: a Celery worker that is handed the member of a killed worker gives up when
it finds any claim in `.c`, and nobody would send the body.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qcore.brokers.contract.chords import Chords
from qcore.brokers.contract.records import FullChord, Message
from qcore.brokers.redis.connection import SharedConnection
from qcore.brokers.redis.delivery_scripts import DELAY_FUNCTION
from qcore.brokers.redis.keys import Keys
from qcore.brokers.redis.scripts import Script
from qcore.wire.outcome import ChordPart

CLAIM_S = 30  # seconds for which the member counted last may send the body
DONE_S = 300

# ARGV: prefix, '1' for a sorted set, ttl s or '', claim s, then for each part: group, id, entry, score.
# For each part {} or {token, entries, saved group or ''}.
# The token identifies the member and not the worker: when its worker dies before the body is sent, the
# member is redelivered, and with it the right to send the body.
PARTS = Script(
    """
local call, found = redis.call, {}
for i = 5, #ARGV, 4 do
  local key, id, entry, score = ARGV[1] .. ARGV[i], ARGV[i+1], ARGV[i+2], ARGV[i+3]
  local full = {}
  local claim = call('GET', key .. '.c')
  if claim ~= 'done' then
    local member = id .. ':' .. score
    if call('SADD', key .. '.d', member) == 1 then
      if ARGV[2] == '1' then call('ZADD', key .. '.j', score, entry)
      else call('RPUSH', key .. '.j', entry) end
    end
    if ARGV[3] ~= '' then
      for _, tail in ipairs({'.j', '.t', '.s', '.d', ''}) do call('EXPIRE', key .. tail, ARGV[3]) end
    end
    local size = call('GET', key .. '.s')
    local count = call(ARGV[2] == '1' and 'ZCARD' or 'LLEN', key .. '.j')
    if size and not claim and count == tonumber(size) + tonumber(call('GET', key .. '.t') or 0) then
      if call('SET', key .. '.q', member, 'NX', 'EX', ARGV[4]) or call('GET', key .. '.q') == member then
        local entries = call(ARGV[2] == '1' and 'ZRANGE' or 'LRANGE', key .. '.j', 0, -1)
        full = {member, entries, call('GET', key) or ''}
      end
    end
  end
  found[#found+1] = full
end
return found
"""
)

# KEYS: seq.  ARGV: prefix .. group, token, done s, then steps:
#   's', list, raw, channel | 'd', zset, channel, due, list, raw.  1, or 0: another sends it.
DONE = Script(
    DELAY_FUNCTION
    + """
local call, key = redis.call, ARGV[1]
local token = call('GET', key .. '.q')
if token and token ~= ARGV[2] or call('EXISTS', key .. '.c') == 1 or call('EXISTS', key .. '.s') == 0 then
  return 0
end
local i = 4
while i <= #ARGV do
  if ARGV[i] == 'd' then
    shelve(ARGV[i+1], KEYS[1], ARGV[i+2], ARGV[i+3], ARGV[i+4], ARGV[i+5])
    i = i + 6
  else
    call('LPUSH', ARGV[i+1], ARGV[i+2])
    if ARGV[i+3] ~= '' then call('PUBLISH', ARGV[i+3], '1') end
    i = i + 4
  end
end
call('DEL', key .. '.j', key .. '.t', key .. '.s', key .. '.d', key .. '.q')
call('SET', key .. '.c', 'done', 'EX', ARGV[3])
return 1
"""
)


class RedisChords(Chords):
    """The chords of one database."""

    def __init__(
        self,
        shared: SharedConnection,
        keys: Keys,
        route: Callable[[Message], list[str]],
        ordered: bool,
    ) -> None:
        """route: the queues that receive a message; ordered: Celery's option `result_chord_ordered`."""
        super().__init__("redis")
        self._shared, self._keys, self._route, self._ordered = shared, keys, route, ordered

    def create(self, sizes: Sequence[tuple[str, int]], ttl_s: float | None) -> None:
        for group, size in sizes:
            key = self._keys.group(group)
            self._shared.call("DEL", key + ".c", key + ".q")
            self._shared.call("SET", key + ".s", size, *(("EX", _whole(ttl_s)) if ttl_s else ()))

    def count(self, parts: Sequence[ChordPart], ttl_s: float | None) -> list[FullChord | None]:
        ordered = "1" if self._ordered else "0"
        arguments: list[Any] = [self._keys.group(""), ordered, _whole(ttl_s) if ttl_s else "", CLAIM_S]
        for part in parts:
            score = "+inf" if part.index is None else part.index
            arguments += (part.group, part.task_id, part.entry, score)
        return [
            FullChord(part.group, found[0].decode(), found[1], found[2] or None) if found else None
            for part, found in zip(parts, self._shared.run(PARTS, (), tuple(arguments)), strict=True)
        ]

    def grow(self, group: str) -> None:
        self._shared.call("INCR", self._keys.group(group) + ".t")

    def finish(self, full: FullChord, messages: Sequence[Message] = ()) -> bool:
        keys, steps = self._keys, list[Any]()
        for message in messages:
            for queue in self._route(message):
                name, bell = keys.list_for(queue, message.priority), keys.bell(queue)
                if message.due_at is None:
                    steps += ("s", name, message.raw, "" if keys.is_base(name) else bell)
                else:
                    steps += ("d", keys.delayed(queue), bell, repr(message.due_at), name, message.raw)
        return bool(
            self._shared.run(DONE, (keys.sequence,), (keys.group(full.group), full.token, DONE_S, *steps))
        )

    def fail(self, group: str) -> None:
        self._shared.call("DEL", self._keys.group(group) + ".s")


def _whole(seconds: float) -> int:
    return max(1, int(seconds))
