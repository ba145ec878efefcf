"""Schedule entries on Redis: one script publishes the messages of firings and moves the cursors.

In:  entries and firings.  Out: entries with their states, messages in their lists or in the outbox.
Keys begin with one prefix: `revision` (the counter), `revisions` (sorted set: entry by its revision, deleted
ones included), `deleted` (sorted set: when they were deleted), `declared`, `source`, `edited`, `edited_by`
and `state` (hashes by entry), `history.NAME` (a list for each entry, the newest first), `outbox` (a stream),
`members` and `members.info`. An entry exists if it has a state: six numbers (cursor, runs, missed,
overlapped, instant and time of the last message) and a JSON text that Lua does not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from qcore.base.crashpoints import crashpoint
from qcore.brokers.contract.records import Member, Message
from qcore.brokers.contract.schedules import HISTORY_SIZE, Firing, OutboxItem, ScheduleStore, StoredEntry
from qcore.brokers.redis.bus import announce_in, announced_in, retire_from
from qcore.brokers.redis.connection import SharedConnection
from qcore.brokers.redis.delivery_scripts import DELAY_FUNCTION
from qcore.brokers.redis.keys import Keys
from qcore.brokers.redis.scripts import NOW, Script
from qcore.wire.schedule import EntryState, HistoryRecord

#: entries that one call reads, arguments and bytes of firings in one call: none blocks the server for long
READ_AT_ONCE, ARGUMENTS_AT_ONCE, BYTES_AT_ONCE = 2000, 20_000, 4_000_000
SWEPT_AT_ONCE = 1000

# KEYS of all scripts: the counter of revisions, the sequence of delayed messages.

# Returns for a list of names {declared, …}, {source, …}, {edited, …}, {by, …}, {state, …}.
_COLUMNS = """
local p, call = ARGV[1], redis.call
local function columns(names, found)
  for _, field in ipairs({'declared', 'source', 'edited', 'edited_by', 'state'}) do
    local column = {}
    for i = 1, #names, 1000 do
      local part = call('HMGET', p .. field, unpack(names, i, math.min(i + 999, #names)))
      for j = 1, #part do column[i + j - 1] = part[j] end
    end
    found[#found+1] = column
  end
  return found
end
"""

# ARGV: prefix, revision, maximum number.  Returns {name, …}, {revision, …} and columns() of the entries with
# a higher revision, in order; a deleted one has no state.
PAGE = Script(
    _COLUMNS
    + """
local names, revisions = {}, {}
local above, most = '(' .. ARGV[2], ARGV[3]
local found = call('ZRANGEBYSCORE', p .. 'revisions', above, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
for i = 1, #found, 2 do names[#names+1], revisions[#revisions+1] = found[i], found[i+1] end
return columns(names, {names, revisions})
"""
)

# ARGV: prefix, names.  Returns as PAGE.
NAMED = Script(
    _COLUMNS
    + """
local names, revisions = {}, {}
for i = 2, #ARGV do
  names[i-1], revisions[i-1] = ARGV[i], call('ZSCORE', p .. 'revisions', ARGV[i])
end
return columns(names, {names, revisions})
"""
)

# Returns {now, revision or ''}.
CLOCK = Script(NOW + "return {string.format('%.6f', now), redis.call('GET', KEYS[1]) or ''}")

# ARGV: prefix, how long deletions are kept in seconds, and more.
_CHANGE = (
    NOW
    + f"""
local p, call = ARGV[1], redis.call
local last = tonumber(call('GET', KEYS[1]) or 0)
local function changed(name)
  last = last + 1
  call('ZADD', p .. 'revisions', string.format('%.0f', last), name)
end
local function done() call('SET', KEYS[1], string.format('%.0f', last)) end
local function added(name)
  if call('HGET', p .. 'state', name) then return end
  call('HSET', p .. 'state', name, '0 0 0 0 0 0 ')
  call('ZREM', p .. 'deleted', name)
end
local function drop(name)
  for _, field in ipairs({{'declared', 'source', 'edited', 'edited_by', 'state'}}) do
    call('HDEL', p .. field, name)
  end
  call('DEL', p .. 'history.' .. name)
  changed(name)
  call('ZADD', p .. 'deleted', now, name)
end
local edge = string.format('(%.6f', now - tonumber(ARGV[2]))
for _, name in ipairs(call('ZRANGEBYSCORE', p .. 'deleted', '-inf', edge, 'LIMIT', 0, {SWEPT_AT_ONCE})) do
  call('ZREM', p .. 'deleted', name)
  call('ZREM', p .. 'revisions', name)
end
"""
)

# ARGV: …, source, then for each entry: name, what is declared.  Returns the names that changed.
DECLARE = Script(
    _CHANGE
    + """
local source, given, names = ARGV[3], {}, {}
local was, source_of = call('HGETALL', p .. 'source'), {}
for i = 1, #was, 2 do source_of[was[i]] = was[i+1] end
for i = 4, #ARGV, 2 do
  local name, raw = ARGV[i], ARGV[i+1]
  given[name] = true
  if source_of[name] ~= source or call('HGET', p .. 'declared', name) ~= raw then
    call('HSET', p .. 'declared', name, raw)
    call('HSET', p .. 'source', name, source)
    added(name)
    changed(name)
    names[#names+1] = name
  end
end
for i = 1, #was, 2 do
  if was[i+1] == source and not given[was[i]] then
    drop(was[i])
    names[#names+1] = was[i]
  end
end
done()
return names
"""
)

# ARGV: …, name, revision or '', cursor or '', by, and what people changed unless it is taken back.
EDIT = Script(
    _CHANGE
    + """
local name, revision, cursor, by, edited = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local state = call('HGET', p .. 'state', name)
if revision == '0' then
  if state then return 0 end
elseif revision ~= '' then
  if not state or call('ZSCORE', p .. 'revisions', name) ~= revision then return 0 end
end
if edited then
  call('HSET', p .. 'edited', name, edited)
  call('HSET', p .. 'edited_by', name, by)
  added(name)
else
  if not state then return 0 end
  if not call('HGET', p .. 'declared', name) then
    drop(name)
    done()
    return 1
  end
  call('HDEL', p .. 'edited', name)
  call('HDEL', p .. 'edited_by', name)
end
if cursor ~= '' then
  local at, rest = string.match(call('HGET', p .. 'state', name), '^(%S+)(.*)$')
  if tonumber(at) < tonumber(cursor) then call('HSET', p .. 'state', name, cursor .. rest) end
end
changed(name)
done()
return 1
"""
)

# ARGV: prefix, decisions that are kept, then for each firing: name, expected cursor or '',
# cursor, runs, missed, overlapped, task id as JSON or '', instant, the last part of the state, count of
# steps, steps, count of records, records.  Steps:
#   's', list, raw, channel | 'd', zset, channel, due, list, raw | 'o', message for the outbox
# Returns for each: 1, or 0 if a run by hand has taken effect before, or the state that was found, or ''.
# A record is stored behind the time in microseconds. Messages come first: if one is refused (a key of the
# queue's name is no list), the instant is not taken.
FIRE = Script(
    DELAY_FUNCTION
    + """
local p, call, found, i = ARGV[1], redis.call, {}, 3
local most = tonumber(ARGV[2])
local t = call('TIME')
local now = string.format('%.0f', t[1] * 1000000 + t[2])
local pattern = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$'
local function sum(a, b) return string.format('%.0f', tonumber(a) + tonumber(b)) end
local function is_known(past, id)
  for _, record in ipairs(call('LRANGE', past, 0, -1)) do
    if string.find(record, '"task_id":' .. id, 1, true) then return true end
  end
end
while i <= #ARGV do
  local at, name, expected, id, past = i, ARGV[i], ARGV[i+1], ARGV[i+6], p .. 'history.' .. ARGV[i]
  local state = call('HGET', p .. 'state', name)
  local answer = state or ''
  local cursor, runs, missed, overlapped, instant, sent, rest
  if state then
    cursor, runs, missed, overlapped, instant, sent, rest = string.match(state, pattern)
    if expected == '' then answer = id ~= '' and is_known(past, id) and 0 or 1
    elseif cursor == expected then answer, cursor = 1, ARGV[i+2] end
  end
  found[#found+1] = answer
  local takes, count = answer == 1, tonumber(ARGV[i+9])
  i = i + 10
  for _ = 1, count do
    local kind = ARGV[i]
    if kind == 'o' then
      if takes then call('XADD', p .. 'outbox', '*', 'message', ARGV[i+1]) end
      i = i + 2
    elseif kind == 's' then
      if takes then
        call('LPUSH', ARGV[i+1], ARGV[i+2])
        if ARGV[i+3] ~= '' then call('PUBLISH', ARGV[i+3], '1') end
      end
      i = i + 4
    else
      if takes then put_off(ARGV[i+1], KEYS[2], ARGV[i+2], ARGV[i+3], ARGV[i+4], ARGV[i+5]) end
      i = i + 6
    end
  end
  count = tonumber(ARGV[i])
  if takes then
    if id ~= '' then instant, sent, rest = ARGV[at+7], now, ARGV[at+8] end
    state = table.concat({cursor, sum(runs, ARGV[at+3]), sum(missed, ARGV[at+4]), sum(overlapped, ARGV[at+5]),
                          instant, sent, rest}, ' ')
    call('HSET', p .. 'state', name, state)
    for n = i + 1, i + count do call('LPUSH', past, now .. ' ' .. ARGV[n]) end
    for _ = 1, count > 0 and call('LLEN', past) - most or 0 do call('RPOP', past) end
  end
  i = i + 1 + count
end
return found
"""
)

_RECORD = msgspec.json.Decoder(HistoryRecord)
_LAST = msgspec.json.Decoder(tuple[str, str])
_MESSAGE = msgspec.msgpack.Decoder(Message)


class RedisSchedules(ScheduleStore):
    """The schedule entries of one database."""

    def __init__(
        self,
        shared: SharedConnection,
        keys: Keys,
        route: Callable[[Message], list[str]],
        published_to: Callable[[Sequence[str]], None],
        uses_outbox: bool,
    ) -> None:
        """published_to does what remains of publishing once a script has published to these queues."""
        super().__init__("redis")
        self._shared, self._keys, self._prefix = shared, keys, keys.schedules
        self._route, self._published_to, self.uses_outbox = route, published_to, uses_outbox
        self._members = (self._prefix + "members", self._prefix + "members.info")

    def _run(self, script: Script, *arguments: Any) -> Any:
        # A cluster checks only these keys, and refuses them where the prefix does not put all into one slot.
        keys = (self._prefix + "revision", self._keys.sequence)
        return self._shared.run(script, keys, (self._prefix, *arguments))

    def clock(self) -> tuple[float, int]:
        now, revision = self._run(CLOCK)
        return float(now), int(revision or 0)

    def entries(self, since: int = 0) -> list[StoredEntry]:
        found, last = dict[str, StoredEntry](), since
        while True:
            page = _entries(self._run(PAGE, last, READ_AT_ONCE))
            for entry in page:
                found[entry.name] = entry
                if not since and entry.is_deleted:
                    del found[entry.name]  # perhaps since an earlier page
            if len(page) < READ_AT_ONCE:
                return [found[name] for name in sorted(found)]
            last = page[-1].revision

    def named(self, names: Sequence[str]) -> list[StoredEntry | None]:
        found: list[StoredEntry | None] = []
        for start in range(0, len(names), READ_AT_ONCE):
            page = _entries(self._run(NAMED, *names[start : start + READ_AT_ONCE]))
            found += [None if entry.is_deleted else entry for entry in page]
        return found

    def declare(self, source: str, entries: Mapping[str, bytes]) -> list[str]:
        values = [value for pair in entries.items() for value in pair]
        found = self._run(DECLARE, self.tombstone_s, source, *values)
        return sorted(name.decode() for name in found)

    def edit(
        self,
        name: str,
        edited: bytes | None,
        by: str = "",
        revision: int | None = None,
        cursor_us: int | None = None,
    ) -> bool:
        seen, cursor = ("" if value is None else value for value in (revision, cursor_us))
        more = () if edited is None else (edited,)
        return bool(self._run(EDIT, self.tombstone_s, name, seen, cursor, by, *more))

    def history(self, name: str, limit: int = HISTORY_SIZE) -> list[HistoryRecord]:
        if limit <= 0:
            return []
        found = []
        for line in self._shared.call("LRANGE", f"{self._prefix}history.{name}", 0, limit - 1):
            at_us, _, raw = line.partition(b" ")
            record = _RECORD.decode(raw)
            found.append(msgspec.structs.replace(record, at_us=record.at_us or int(at_us)))
        return found

    # --- firings

    def fire(self, firings: Sequence[Firing]) -> list[EntryState | None]:
        queues = [set[str]() for _ in firings]
        packed = [self._packed(firing, queues[i]) for i, firing in enumerate(firings)]
        answers: list[EntryState | None] = []
        reached: set[str] = set()
        crashpoint("before_fire")
        for values in _batches(packed):
            for answer in self._run(FIRE, HISTORY_SIZE, *values):
                if answer == 1:
                    reached |= queues[len(answers)]
                answers.append(None if isinstance(answer, int) else _state(answer))
        if None in answers:
            self._published_to(sorted(reached))
        crashpoint("fired")
        return answers

    def _packed(self, firing: Firing, queues: set[str]) -> list[Any]:
        """A firing as the script reads it; the queues of its messages are added to `queues`."""
        steps, count = list[Any](), 0
        for message in firing.messages:
            targets = [""] if self.uses_outbox else self._route(message)
            for queue in targets:
                steps += self._step(message, queue)
            count += len(targets)
            queues.update(filter(None, targets))
        task_id = msgspec.json.encode(firing.task_id) if firing.task_id else ""
        expected = "" if firing.expected_us is None else firing.expected_us
        last = msgspec.json.encode((firing.task_id, firing.by))
        counts = (firing.runs, firing.missed, firing.overlapped)
        records = [msgspec.json.encode(record) for record in firing.records]
        head = (firing.name, expected, firing.cursor_us, *counts, task_id, firing.instant_us, last)
        return [*head, count, *steps, len(records), *records]

    def _step(self, message: Message, queue: str) -> tuple[Any, ...]:
        keys = self._keys
        if not queue:
            return "o", msgspec.msgpack.encode(message)
        name, bell = keys.list_for(queue, message.priority), keys.bell(queue)
        if message.due_at is None:
            return "s", name, message.raw, "" if keys.is_base(name) else bell
        return "d", keys.delayed(queue), bell, repr(message.due_at), name, message.raw

    # --- the outbox

    def outbox(self, limit: int = 100) -> list[OutboxItem]:
        return [
            OutboxItem(number.decode(), int(number.partition(b"-")[0]) / 1e3, _MESSAGE.decode(fields[1]))
            for number, fields in self._shared.call(
                "XRANGE", self._prefix + "outbox", "-", "+", "COUNT", limit
            )
        ]

    def sent(self, ids: Sequence[str]) -> None:
        if ids:
            self._shared.call("XDEL", self._prefix + "outbox", *ids)

    # --- schedulers

    def announce(self, node: str, facts: dict[str, Any], ttl_s: float) -> None:
        announce_in(self._shared, self._members, node, facts, ttl_s)

    def retire(self, node: str) -> None:
        retire_from(self._shared, self._members, node)

    def schedulers(self) -> list[Member]:
        return announced_in(self._shared, self._members)


def _batches(packed: list[list[Any]]) -> Iterator[list[Any]]:
    """The arguments of several firings, in order, as much as one call may carry."""
    batch, size = list[Any](), 0
    for values in packed:
        more = sum(len(value) for value in values if isinstance(value, bytes))
        if batch and (len(batch) + len(values) > ARGUMENTS_AT_ONCE or size + more > BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch += values
        size += more
    if batch:
        yield batch


_NEVER_RAN = EntryState()


def _state(raw: bytes) -> EntryState:
    if not raw or raw == b"0 0 0 0 0 0 ":
        return _NEVER_RAN
    *numbers, last = raw.split(b" ", 6)
    cursor, runs, missed, overlapped, instant, sent = map(int, numbers)
    task_id, by = _LAST.decode(last) if last else ("", "")
    return EntryState(cursor, runs, missed, overlapped, task_id, instant, sent, by)


def _entries(columns: list[list[Any]]) -> list[StoredEntry]:
    """The entries in what PAGE and NAMED return."""
    found = []
    for name, revision, declared, source, edited, by, state in zip(*columns, strict=True):
        entry = StoredEntry(name.decode(), int(revision or 0))
        if state is not None:
            about = (source or b"").decode(), edited, (by or b"").decode()
            entry = StoredEntry(entry.name, entry.revision, declared, *about, _state(state))
        found.append(entry)
    return found
