"""The Lua scripts of the Redis broker: every step that must be atomic.

Message bytes are never decoded in Lua. A ledger is a hash `<number> <list key>` -> message; so the
queue of a message is known without parsing it and the bytes are returned unchanged.
Delayed messages are members `<16 digits><list key> NUL <message>` of one sorted set per queue; the
sequence keeps equal messages apart and messages due at the same moment in order.
A message that an earlier run may have started is returned with a mark behind its last byte: white space
that JSON readers skip, with one blank per redelivery. Only these scripts and unmark() use it.
"""

from __future__ import annotations

import re

try:
    from _sha1 import sha1  # type: ignore[import-not-found]  # without OpenSSL, which would be 3.7 MB more in each worker
except ImportError:
    from hashlib import sha1

QUARANTINE_SIZE = 10_000
FORGET_OWNER_S = 3600  # a wait that is answered late may write into a dead owner's claim list


MOST_RETURNS = 99  # redeliveries beyond this are not counted
_MARK = re.compile(rb"\t\r\t( {1,99})\Z")


def unmark(raw: bytes) -> tuple[bytes, int]:
    """The message as it was published, and how often it was redelivered."""
    found = _MARK.search(raw, max(0, len(raw) - MOST_RETURNS - 3)) if raw.endswith(b" ") else None
    return (raw[: found.start()], len(found[1])) if found else (raw, 0)


class Script:
    def __init__(self, text: str, whole: bool = False) -> None:
        """whole: always sent as text, because later commands of the same write rely on it: a script whose
        digest is unknown to the server would be executed after them."""
        self.text = text
        self.sha = sha1(text.encode()).hexdigest()
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


# Owners are sorted by when their leases end.
# KEYS: lease, owners, the places of a host's owners.  ARGV: owner, lease ms, its place or '', the owner that
# it was before or ''.
ENROL = Script(
    NOW
    + """
redis.call('SET', KEYS[1], '1', 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2] / 1000, ARGV[1])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[3], ARGV[1], ARGV[3]) end
redis.call('HDEL', KEYS[3], ARGV[4])
"""
)

_SOON = """
local function soon(owners, late)
  local first = redis.call('ZRANGEBYSCORE', owners, now - late, '+inf', 'WITHSCORES', 'LIMIT', 0, 2)
  return string.format('%.3f', first[2] and math.max(0, tonumber(first[2]) - now) or 3600), #first > 2
end
"""

# KEYS: lease, owners, the places of a host's owners.  ARGV: owner, lease ms, the grace time for late waits as
# for REAP.  Returns {seconds until a reaper can find something, [owner, place]…}, or nil when the lease is
# gone.
RENEW = Script(
    NOW
    + _SOON
    + """
if redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 0 then return nil end
redis.call('ZADD', KEYS[2], now + ARGV[2] / 1000, ARGV[1])
local wait, others = soon(KEYS[2], ARGV[3])
return {wait, others and redis.call('HGETALL', KEYS[3]) or {}}
"""
)

# The leases of owners whose processes have ended; REAP then finds what they held.
# KEYS: the places of a host's owners.  ARGV: the prefix of leases, owners…
END_LEASES = Script(
    """
for i = 2, #ARGV do
  redis.call('DEL', ARGV[1] .. ARGV[i])
  redis.call('HDEL', KEYS[1], ARGV[i])
end
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

# A message that a wake-up took may have been started, as may one in a ledger.
# KEYS: owners, the mark of the last check.  ARGV: the prefixes of leases, ledgers, claim lists and
# watched sets, and how long after the end of its lease an owner's waits may still receive a message.
# Returns {messages returned, owners, seconds until another check can find something}.  The cost of a check
# grows with the number of owners, so in a large fleet at most one check runs within 0.2 s.
REAP = Script(
    NOW
    + _SOON
    + _GIVE_BACK
    + f"""
local count = 0
local owners = redis.call('ZCARD', KEYS[1])
local soon = (soon(KEYS[1], ARGV[5]))
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

# KEYS: ledger.  ARGV: fields whose messages were never delivered.
RETURN_FIELDS = Script(_GIVE_BACK + "return give_back(KEYS[1], false, ARGV)")

# KEYS: watched.  ARGV: claim list, 'crashed' or ''.
RETURN_CLAIMS = Script(_GIVE_BACK + "return give_back_claims(ARGV[1], KEYS[1], ARGV[2] ~= '')")

# KEYS: lease, ledger, owners, watched, the places of a host's owners.  ARGV: claim list, owner.
LEAVE = Script(
    _GIVE_BACK
    + """
local count = give_back(KEYS[2], false) + give_back_claims(ARGV[1], KEYS[4], false)
redis.call('DEL', KEYS[1], KEYS[4])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('HDEL', KEYS[5], ARGV[2])
return count
"""
)
