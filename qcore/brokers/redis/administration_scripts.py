"""The Lua scripts of administration; see brokers/redis/scripts.py."""

from __future__ import annotations

from qcore.brokers.redis.delivery_scripts import DELAY_FUNCTION
from qcore.brokers.redis.scripts import NOW, Script

CARRY_FUNCTION = """
local n, bell = tonumber(ARGV[1]), ARGV[2]
local zset, zset_to, seq = KEYS[2*n+1], KEYS[2*n+2], KEYS[2*n+3]
local to = {}
for i = 1, n do to[KEYS[i]] = KEYS[n+i] end
local function carry_delayed(member, due)
  if redis.call('ZREM', zset, member) == 0 then return 0 end
  local bar = string.find(member, '\\0', 17, true)
  local list = to[string.sub(member, 17, bar - 1)] or KEYS[n+1]
  shelve(zset_to, seq, bell, due, list, string.sub(member, bar + 1))
  return 1
end
"""

# KEYS: the source's lists, the target's, the delayed set of each, seq.
# ARGV: how many lists, the target's wake-up channel, the limit.  Returns how many were moved.
MOVE = Script(
    DELAY_FUNCTION
    + CARRY_FUNCTION
    + """
local left, count = tonumber(ARGV[3]), 0
for i = 1, n do
  while count < left do
    local raw = redis.call('RPOP', KEYS[i])
    if not raw then break end
    redis.call('LPUSH', KEYS[n+i], raw)
    count = count + 1
  end
end
if count < left then
  local held = redis.call('ZRANGE', zset, 0, left - count - 1, 'WITHSCORES')
  for i = 1, #held, 2 do count = count + carry_delayed(held[i], held[i+1]) end
end
if count > 0 then redis.call('PUBLISH', bell, '1') end
return count
"""
)

# KEYS as for MOVE.  ARGV: how many lists, the target's wake-up channel, then for each message which list (0:
# the delayed set), its value there, its score.  Messages that no longer wait are skipped.
MOVE_THESE = Script(
    DELAY_FUNCTION
    + CARRY_FUNCTION
    + """
local count = 0
for i = 3, #ARGV, 3 do
  local from, value = tonumber(ARGV[i]), ARGV[i+1]
  if from == 0 then count = count + carry_delayed(value, ARGV[i+2])
  elseif redis.call('LREM', KEYS[from], -1, value) == 1 then
    redis.call('LPUSH', KEYS[n+from], value)
    count = count + 1
  end
end
if count > 0 then redis.call('PUBLISH', bell, '1') end
return count
"""
)

# KEYS: quarantine.  ARGV: entry, list, wake-up channel, message.
REPLAY = Script(
    """
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', ARGV[2], ARGV[4])
redis.call('PUBLISH', ARGV[3], '1')
return 1
"""
)


#: how many messages of a list are checked for one whose time is known
LOOKED_AT = 5


# ARGV: prefix, separator, prefix of the delayed sets, how many steps, the steps, then the queues.
# Returns for each queue the number of ready and of delayed messages, and for each list the times of its first
# message whose time is known: 'milliseconds of its id,its ETA;…', either may be empty.
# wire/identity.py defines which ids contain a time. A retry keeps its id and a replacement takes over
# another's, so of those only an ETA counts.
DEPTHS = Script(
    f"""
local function told(list)
  for back = 1, {LOOKED_AT} do
    local raw = redis.call('LINDEX', list, -back)
    if not raw then return end
    local at = string.find(raw, '"headers"', 1, true)
    if at then
      local head = string.sub(raw, at, at + 4095)
      local made = string.match(head, '"id": ?"%x+%-%x+%-8%x%x%x%-[89ab]%x%x%x%-(%x+)"') or ''
      local eta = string.match(head, '"eta": ?"([^"]+)"') or ''
      local again = string.find(head, '"retries": ?[1-9]')
        or string.find(head, '"replaced_task_nesting": ?[1-9]')
      if again or #made ~= 12 then made = '' end
      if eta ~= '' or made ~= '' then
        return (made ~= '' and tostring(tonumber(made, 16)) or '') .. ',' .. eta
      end
    end
  end
end
"""
    """
local steps, found = tonumber(ARGV[4]), {}
for i = 5 + steps, #ARGV do
  local ready, times = 0, {}
  for s = 5, 4 + steps do
    local list = ARGV[1] .. ARGV[i]
    if ARGV[s] ~= '0' then list = list .. ARGV[2] .. ARGV[s] end
    local length = redis.call('LLEN', list)
    ready = ready + length
    if length > 0 then times[#times+1] = told(list) end
  end
  found[#found+1] = ready
  found[#found+1] = redis.call('ZCARD', ARGV[3] .. ARGV[i])
  found[#found+1] = table.concat(times, ';')
end
return found
"""
)


# KEYS: owners.  ARGV: the prefixes of ledgers, claim lists and watched sets.
# Returns list, how many messages of it are in flight, list, …
HELD = Script(
    """
local counts, found = {}, {}
for _, owner in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  for _, field in ipairs(redis.call('HKEYS', ARGV[1] .. owner)) do
    local list = string.sub(field, string.find(field, ' ', 1, true) + 1)
    counts[list] = (counts[list] or 0) + 1
  end
  for _, list in ipairs(redis.call('SMEMBERS', ARGV[3] .. owner)) do
    counts[list] = (counts[list] or 0) + redis.call('LLEN', ARGV[2] .. owner .. ' ' .. list)
  end
end
for list, count in pairs(counts) do
  found[#found+1] = list
  found[#found+1] = count
end
return found
"""
)


# KEYS: unacked.  ARGV: cursor, about how many fields.  A field's value is [message, exchange, routing key]
# as JSON; the last two are matched at its end, escaped as they are.
# Returns the next cursor, then exchange, routing key, how many fields have them, exchange, …
UNACKED = Script(
    """
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local counts, order = {}, {}
for i = 2, #page[2], 2 do
  local tail = string.sub(page[2][i], -1024)
  local exchange, route = string.match(tail, ', ?"([^"]*)", ?"([^"]*)"%]$')
  local key = (exchange or '?') .. '\\0' .. (route or '')
  if not counts[key] then
    counts[key] = 0
    order[#order+1] = {key, exchange or '?', route or ''}
  end
  counts[key] = counts[key] + 1
end
local found = {page[1]}
for _, one in ipairs(order) do
  found[#found+1] = one[2]
  found[#found+1] = one[3]
  found[#found+1] = counts[one[1]]
end
return found
"""
)


# KEYS: the source's lists, those of the target (or the source's again), the delayed set of each, seq.
# ARGV: how many lists, the target's wake-up channel or '' to delete, a text that equals no message, then for
# each message: which list (0: the delayed set), its distance from the tail when read (from 1), value, score.
# Returns 1 for each that was still there, 0 for the others.
# A search by value scans the whole list, so only the first of the shifted messages is searched for; the
# others have shifted as far. Each is overwritten with the text, and all are removed in one pass.
TAKE_THESE = Script(
    DELAY_FUNCTION
    + CARRY_FUNCTION
    + """
local tomb, done, shift, dead = ARGV[3], {}, {}, {}
for i = 4, #ARGV, 4 do
  local from, behind, value = tonumber(ARGV[i]), tonumber(ARGV[i+1]), ARGV[i+2]
  local there = 0
  if from == 0 then
    if bell == '' then there = redis.call('ZREM', zset, value)
    else there = carry_delayed(value, ARGV[i+3]) end
  else
    local list = KEYS[from]
    local at = (shift[from] or 0) - behind
    if at >= 0 or redis.call('LINDEX', list, at) ~= value then
      local place = redis.call('LPOS', list, value, 'RANK', -1)
      at = place and place - redis.call('LLEN', list)
      if at then shift[from] = at + behind end
    end
    if at then
      redis.call('LSET', list, at, tomb)
      dead[from] = (dead[from] or 0) + 1
      there = 1
      if bell ~= '' then redis.call('LPUSH', KEYS[n+from], value) end
    end
  end
  done[#done+1] = there
end
for from, count in pairs(dead) do redis.call('LREM', KEYS[from], -count, tomb) end
if bell ~= '' then redis.call('PUBLISH', bell, '1') end
return done
"""
)


# KEYS: paused, until, notes, wake-up channel.  ARGV: queue, note, seconds or ''.
PAUSE = Script(
    NOW
    + """
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if ARGV[3] ~= '' then redis.call('ZADD', KEYS[2], string.format('%.6f', now + tonumber(ARGV[3])), ARGV[1]) end
redis.call('HSET', KEYS[3], ARGV[1], string.format('%.3f ', now) .. ARGV[2])
redis.call('PUBLISH', KEYS[4], '1')
"""
)


# KEYS: paused, until, notes, wake-up channel.  ARGV: queue.
RESUME = Script(
    """
redis.call('SREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('PUBLISH', KEYS[4], '1')
"""
)


# KEYS: paused, until, notes.  Returns {now, {queue, …}, {queue, until, …}, {queue, note, …}}.
PAUSES = Script(
    NOW
    + """
return {tostring(now), redis.call('SMEMBERS', KEYS[1]), redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES'),
  redis.call('HGETALL', KEYS[3])}
"""
)
