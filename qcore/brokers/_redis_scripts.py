"""The Lua scripts of the Redis broker: every step that must happen wholly or not at all.

Message bytes are never decoded in Lua. A ledger is a hash `<number> <list key>` -> message; so a
message's place is known without looking into it and the bytes come back as they were.
Delayed messages are members `<16 digits><list key> NUL <message>` of one sorted set per queue; the
sequence keeps equal messages apart and messages due at the same moment in order.
A message that somebody may have started comes back with a mark behind its last byte: white space that
JSON readers skip, and as many blanks as times it came back. Only these scripts and unmark() know of it.
"""

from __future__ import annotations

import hashlib
import re

from qcore.brokers._redis_failure_steps import KEEP_FUNCTION

QUARANTINE_SIZE = 10_000
FORGET_OWNER_S = 3600  # a wait that was answered late may land in a dead owner's claim list


MOST_RETURNS = 99  # more are not counted
_MARK = re.compile(rb"\t\r\t( {1,99})\Z")


def unmark(raw: bytes) -> tuple[bytes, int]:
    """The message as it was published, and how often it came back."""
    found = _MARK.search(raw, max(0, len(raw) - MOST_RETURNS - 3)) if raw.endswith(b" ") else None
    return (raw[: found.start()], len(found[1])) if found else (raw, 0)


class Script:
    def __init__(self, text: str, whole: bool = False) -> None:
        """whole: always sent as text, because what follows in the same write relies on it: a digest
        that the server does not know would be executed after that."""
        self.text = text
        self.sha = hashlib.sha1(text.encode()).hexdigest()
        self.head = ("EVAL", text) if whole else ("EVALSHA", self.sha)


NOW = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
"""

_MARKS = f"""
local function unmark(raw)
  local tail = string.sub(raw, -{MOST_RETURNS + 3})
  local at, _, blanks = string.find(tail, '\\t\\r\\t( +)$')
  if not at then return raw, 0 end
  return string.sub(raw, 1, #raw - #tail + at - 1), #blanks
end
local function mark(raw)
  local bare, count = unmark(raw)
  return bare .. '\\t\\r\\t' .. string.rep(' ', math.min(count + 1, {MOST_RETURNS}))
end
"""

SHELVE_FUNCTION = """
local function shelve(zset, seq, bell, due, list, raw)
  local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2]
  local n = string.format('%016x', redis.call('INCR', seq))
  redis.call('ZADD', zset, due, n .. list .. '\\0' .. raw)
  if not first or tonumber(due) < tonumber(first) then redis.call('PUBLISH', bell, '1') end
end
"""

# Only consumers of ours look into the delayed sets. Where none listens for the queue now, a message
# that says its time itself (the eta header) goes to the queue at once: Celery's workers hold it, and
# one of ours that comes later puts it into the set.
# KEYS: seq.  ARGV: (zset, bell, due, list, raw)…
SHELVE = Script(
    SHELVE_FUNCTION
    + """
for i = 1, #ARGV, 5 do
  local raw = ARGV[i+4]
  if redis.call('PUBSUB', 'NUMSUB', ARGV[i+1])[2] == 0 and string.find(raw, '"eta":"', 1, true) then
    redis.call('LPUSH', ARGV[i+3], raw)
  else
    shelve(ARGV[i], KEYS[1], ARGV[i+1], ARGV[i+2], ARGV[i+3], raw)
  end
end
"""
)

# Owners are sorted by when their leases end.
# KEYS: lease, owners.  ARGV: owner, lease ms.
ENROL = Script(
    NOW
    + """
redis.call('SET', KEYS[1], '1', 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2] / 1000, ARGV[1])
"""
)

_SOON = """
local function soon(owners, late)
  local first = redis.call('ZRANGEBYSCORE', owners, now - late, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return string.format('%.3f', first[2] and math.max(0, tonumber(first[2]) - now) or 3600)
end
"""

# KEYS: lease, owners.  ARGV: owner, lease ms, as for REAP the time of late waits.  Returns in how many
# seconds a reaper can find something, or nil when the lease is gone.
RENEW = Script(
    NOW
    + _SOON
    + """
if redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 0 then return nil end
redis.call('ZADD', KEYS[2], now + ARGV[2] / 1000, ARGV[1])
return soon(KEYS[2], ARGV[3])
"""
)

# KEYS: lease, ledger, paused, then the lists in order of preference (those of all queues for one step,
# then for the next), the delayed sets, the claim lists.
# ARGV: limit, first number, how many lists, how many delayed sets, how many messages are for what is less
# urgent, which list such a turn looks at first, where in the name of a delayed set the queue's begins,
# then the source of each claim list.
# Returns {0} when the lease is gone, else {1, seconds to the next due message or '', {field, …},
# {message, …}, {how many from each claim list, …}, {which of the queues are paused, …}}.
CLAIM = Script(
    """
if redis.call('EXISTS', KEYS[1]) == 0 then return {0} end
local room, number = tonumber(ARGV[1]), tonumber(ARGV[2])
local lists, shelves = tonumber(ARGV[3]), tonumber(ARGV[4])
local fields, raws, pairs_ = {}, {}, {}
local function take(list, raw)
  local n = #raws + 1
  local field = string.format('%d ', number) .. list
  number = number + 1
  fields[n], raws[n], pairs_[2*n-1], pairs_[2*n] = field, raw, field, raw
end
local off, paused, now = {}, {}, nil
local function clock()
  if not now then
    local t = redis.call('TIME')
    now = t[1] + t[2] / 1000000
  end
  return now
end
local function is_paused(queue)
  if redis.call('SISMEMBER', KEYS[3], queue) == 0 then return false end
  local till = redis.call('ZSCORE', KEYS[3] .. '.until', queue)
  if not till or tonumber(till) > clock() then return true end
  redis.call('SREM', KEYS[3], queue)
  redis.call('ZREM', KEYS[3] .. '.until', queue)
  redis.call('HDEL', KEYS[3] .. '.notes', queue)
end
if redis.call('EXISTS', KEYS[3]) == 1 then
  for j = 1, shelves do
    local queue = string.sub(KEYS[3+lists+j], tonumber(ARGV[7]))
    if is_paused(queue) then
      paused[#paused+1] = j
      off[KEYS[3+lists+j]] = true
      for i = j, lists, shelves do off[KEYS[3+i]] = true end
    end
  end
end
local next_due = ''
for i = 4 + lists, 3 + lists + shelves do
  local head = off[KEYS[i]] and {} or redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
  if head[2] then
    if tonumber(head[2]) <= clock() then
      local due = redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', string.format('%.6f', now), 'LIMIT', 0, 1000)
      for _, member in ipairs(due) do
        local bar = string.find(member, '\\0', 17, true)
        redis.call('LPUSH', string.sub(member, 17, bar - 1), string.sub(member, bar + 1))
      end
      if #due > 0 then redis.call('ZREMRANGEBYRANK', KEYS[i], 0, #due - 1) end
      head = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
    end
    if head[2] then
      local left = tonumber(head[2]) - now
      if next_due == '' or left < next_due then next_due = left end
    end
  end
end
local woken = {}
for i = 4 + lists + shelves, #KEYS do
  local source, count = ARGV[i - lists - shelves + 4], 0
  while room > 0 or off[source] do
    local raw = redis.call('RPOP', KEYS[i])
    if not raw then break end
    count = count + 1
    if off[source] then redis.call('RPUSH', source, raw)
    else
      take(source, raw)
      room = room - 1
    end
  end
  woken[#woken+1] = count
end
local function pull(i, most)
  if most <= 0 or off[KEYS[i]] then return 0 end
  local got = redis.call('RPOP', KEYS[i], most)
  if not got then return 0 end
  for j = 1, #got do take(KEYS[i], got[j]) end
  room = room - #got
  return #got
end
local turns, from = math.min(tonumber(ARGV[5]), room), 4 + tonumber(ARGV[6])
if turns > 0 then
  for i = from, 3 + lists do turns = turns - pull(i, turns) end
  for i = from - 1, 4, -1 do turns = turns - pull(i, turns) end
end
for i = 4, 3 + lists do
  if room <= 0 then break end
  pull(i, room)
end
if #raws > 0 then redis.call('HSET', KEYS[2], unpack(pairs_)) end
return {1, tostring(next_due), fields, raws, woken, paused}
"""
)

# What a wake-up took and was handed out at once goes from the claim list to the ledger.
# KEYS: claim list, ledger.  ARGV: field, message.  Returns 0 when it is not ours any more.
ADOPT = Script(
    """
if redis.call('LREM', KEYS[1], 1, ARGV[2]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
""",
    whole=True,
)

# One round trip ends a batch.  KEYS: ledger, quarantine, seq.
# ARGV, for each delivery: field, action, and
#   'a'                            done with
#   'A', key, ttl ms or '', meta   done with, and a result
#   'b', claim list, message             done with, and never in the ledger
#   'B', claim list, message, key, ttl, meta
#   'g', how, due, extra, bell, count of steps, steps…   anything; how is one of a r t d q
#        steps: 'r', key, ttl ms, meta | 's', list, raw, bell | 'd', zset, bell, due, list, raw
#               | 'f', prefix, task id, ttl in microseconds or '', most, facts, detail
# A delivery that is not in its place is refused with everything that belongs to it.
SETTLE = Script(
    SHELVE_FUNCTION
    + _MARKS
    + KEEP_FUNCTION
    + f"""
local refused, i = {{}}, 1
local call, ledger = redis.call, KEYS[1]
local function store(key, ttl, meta)
  if ttl == '' then call('SET', key, meta) else call('PSETEX', key, ttl, meta) end
  call('PUBLISH', key, meta)
end
while i <= #ARGV do
  local field, action = ARGV[i], ARGV[i+1]
  if action == 'A' then
    if call('HDEL', ledger, field) == 1 then store(ARGV[i+2], ARGV[i+3], ARGV[i+4])
    else refused[#refused+1] = field end
    i = i + 5
  elseif action == 'a' then
    if call('HDEL', ledger, field) == 0 then refused[#refused+1] = field end
    i = i + 2
  elseif action == 'B' then
    if call('LREM', ARGV[i+2], 1, ARGV[i+3]) == 1 then store(ARGV[i+4], ARGV[i+5], ARGV[i+6])
    else refused[#refused+1] = field end
    i = i + 7
  elseif action == 'b' then
    if call('LREM', ARGV[i+2], 1, ARGV[i+3]) == 0 then refused[#refused+1] = field end
    i = i + 4
  else
    local how, due, extra, bell = ARGV[i+2], ARGV[i+3], ARGV[i+4], ARGV[i+5]
    local steps = tonumber(ARGV[i+6])
    local raw = call('HGET', ledger, field)
    if not raw then refused[#refused+1] = field end
    i = i + 7
    for _ = 1, steps do
      local kind = ARGV[i]
      if kind == 'd' then
        if raw then shelve(ARGV[i+1], KEYS[3], ARGV[i+2], ARGV[i+3], ARGV[i+4], ARGV[i+5]) end
        i = i + 6
      elseif kind == 'f' then
        if raw then keep_failure(unpack(ARGV, i + 1, i + 6)) end
        i = i + 7
      else
        if raw then
          if kind == 'r' then store(ARGV[i+1], ARGV[i+2], ARGV[i+3])
          else
            call('LPUSH', ARGV[i+1], ARGV[i+2])
            if ARGV[i+3] ~= '' then call('PUBLISH', ARGV[i+3], '1') end
          end
        end
        i = i + 4
      end
    end
    if raw then
      local list = string.sub(field, string.find(field, ' ', 1, true) + 1)
      if how == 'r' or how == 't' then
        call('RPUSH', list, how == 't' and mark(raw) or raw)
        if bell ~= '' then call('PUBLISH', bell, '1') end
      elseif how == 'd' then shelve(extra, KEYS[3], bell, due, list, raw)
      elseif how == 'q' then
        call('XADD', KEYS[2], 'MAXLEN', '~', {QUARANTINE_SIZE}, '*',
             'queue', due, 'reason', extra, 'raw', (unmark(raw)))
      end
      call('HDEL', ledger, field)
    end
  end
end
return refused
"""
)

_GIVE_BACK = (
    _MARKS
    + """
local function give_back(ledger, crashed, only)
  local found = {}
  if only then
    for _, field in ipairs(only) do
      local raw = redis.call('HGET', ledger, field)
      if raw then found[#found+1] = {field, raw} end
      redis.call('HDEL', ledger, field)
    end
  else
    local all = redis.call('HGETALL', ledger)
    for i = 1, #all, 2 do found[#found+1] = {all[i], all[i+1]} end
    redis.call('DEL', ledger)
  end
  local function number(field) return tonumber(string.sub(field, 1, string.find(field, ' ', 1, true) - 1)) end
  for _, one in ipairs(found) do one[3] = number(one[1]) end
  -- The first that was taken goes back last, so that it is at the head.
  table.sort(found, function(a, b) return a[3] > b[3] end)
  for _, one in ipairs(found) do
    local list = string.sub(one[1], string.find(one[1], ' ', 1, true) + 1)
    redis.call('RPUSH', list, crashed and mark(one[2]) or one[2])
  end
  return #found
end
local function give_back_claims(claim, watched, crashed)
  local count = 0
  for _, source in ipairs(redis.call('SMEMBERS', watched)) do
    local raw = redis.call('LPOP', claim .. ' ' .. source)
    while raw do
      redis.call('RPUSH', source, crashed and mark(raw) or raw)
      count = count + 1
      raw = redis.call('LPOP', claim .. ' ' .. source)
    end
  end
  return count
end
"""
)

# What a wake-up took may have been started, as may what is in a ledger.
# KEYS: owners, the mark of the last look.  ARGV: what the names of leases, ledgers, claim lists and
# watched sets begin with, and for how long after its lease's end an owner may still get something: its waits.
# Returns {messages returned, owners, seconds until another look can find something}.  A look costs as much as
# there are owners, so in a large fleet only one of those who come within 0.2 s looks.
REAP = Script(
    NOW
    + _SOON
    + _GIVE_BACK
    + f"""
local count = 0
local owners = redis.call('ZCARD', KEYS[1])
local soon = soon(KEYS[1], ARGV[5])
if owners > 16 and not redis.call('SET', KEYS[2], '1', 'NX', 'PX', 200) then return {{0, owners, soon}} end
local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #all, 2 do
  local owner = all[i]
  if redis.call('EXISTS', ARGV[1] .. owner) == 0 then
    count = count + give_back(ARGV[2] .. owner, true)
    count = count + give_back_claims(ARGV[3] .. owner, ARGV[4] .. owner, true)
    if now - tonumber(all[i+1]) > {FORGET_OWNER_S} then
      redis.call('ZREM', KEYS[1], owner)
      redis.call('DEL', ARGV[4] .. owner)
    end
  end
end
return {{count, owners, soon}}
"""
)

# KEYS: ledger.  ARGV: fields that nobody was told of.
RETURN_FIELDS = Script(_GIVE_BACK + "return give_back(KEYS[1], false, ARGV)")

# KEYS: watched.  ARGV: claim list, 'crashed' or ''.
RETURN_CLAIMS = Script(_GIVE_BACK + "return give_back_claims(ARGV[1], KEYS[1], ARGV[2] ~= '')")

# KEYS: lease, ledger, owners, watched.  ARGV: claim list, owner.
LEAVE = Script(
    _GIVE_BACK
    + """
local count = give_back(KEYS[2], false) + give_back_claims(ARGV[1], KEYS[4], false)
redis.call('DEL', KEYS[1], KEYS[4])
redis.call('ZREM', KEYS[3], ARGV[2])
return count
"""
)

# KEYS: binding set, deadlines, inboxes.  ARGV: member, exchange, prefix, separator.
# Enter an inbox, and sweep away those whose owners died without closing them.
OPEN_INBOX = Script(
    NOW
    + """
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], 'GT', string.format('%d', t[1] * 1000 + 3600000), ARGV[2])
for _, stale in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now - 60)) do
  redis.call('SREM', KEYS[1], stale)
  redis.call('ZREM', KEYS[3], stale)
  -- A Celery worker's reply to a caller who died lives for ever otherwise.
  local _, last = string.find(stale, ARGV[4] .. ARGV[4], 1, true)
  if last then redis.call('DEL', ARGV[3] .. string.sub(stale, last + 1)) end
end
redis.call('ZADD', KEYS[3], now, ARGV[1])
"""
)

# KEYS: binding set.  ARGV: exchange, key, separator, prefix, message.
REPLY = Script(
    """
local sent = 0
local head, tail = ARGV[2] .. ARGV[3], ARGV[1]
for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if string.sub(member, 1, #head) == head then
    local from = string.find(member, ARGV[3], #head + 1, true)
    local queue = from and string.sub(member, from + #ARGV[3]) or ''
    -- Only places made for replies: a forged request must not write into task queues.
    if queue ~= '' and #queue > #tail and string.sub(queue, -#tail) == tail then
      redis.call('LPUSH', ARGV[4] .. queue, ARGV[5])
      redis.call('PEXPIRE', ARGV[4] .. queue, 10000)
      sent = sent + 1
    end
  end
end
return sent
"""
)

# KEYS: members, infos.  ARGV: node, info.  Returns the info before it, if there is one.
ANNOUNCE = Script(
    NOW
    + """
local before = redis.call('HGET', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return before
"""
)

# KEYS: members, infos.  Returns {now, {node, seen, …}, {node, info, …}}.
MEMBERS = Script(
    NOW
    + """
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - 7200)) do
  redis.call('HDEL', KEYS[2], node)
  redis.call('ZREM', KEYS[1], node)
end
return {tostring(now), redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), redis.call('HGETALL', KEYS[2])}
"""
)

# KEYS: revoked, order.  ARGV: ttl s, ids…
REVOKE = Script(
    NOW
    + """
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
"""
)

# KEYS: revoked.  ARGV: limit.
REVOKED = Script(
    NOW
    + """
return redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', string.format('(%.6f', now), 'LIMIT', 0, ARGV[1])
"""
)

# KEYS: revoked.  ARGV: ids.  Returns those that are remembered.
REVOKED_AMONG = Script(
    NOW
    + """
local found = {}
for _, id in ipairs(ARGV) do
  local until_ = redis.call('ZSCORE', KEYS[1], id)
  if until_ and tonumber(until_) > now then found[#found + 1] = id end
end
return found
"""
)
