"""The Lua scripts of what operators do, and of publishing once; see brokers/_redis_scripts.py."""

from __future__ import annotations

from qcore.brokers._redis_scripts import SHELVE_FUNCTION, Script

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
# ARGV: how many lists, the target's bell, at most so many.  Returns how many.
MOVE = Script(
    SHELVE_FUNCTION
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

# KEYS as for MOVE.  ARGV: how many lists, the target's bell, then for each message which list (0: the
# delayed set), its value there, its score.  What has gone meanwhile is passed over.
MOVE_THESE = Script(
    SHELVE_FUNCTION
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

# KEYS: quarantine.  ARGV: entry, list, bell, message.
REPLAY = Script(
    """
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', ARGV[2], ARGV[4])
redis.call('PUBLISH', ARGV[3], '1')
return 1
"""
)

# KEYS: key, seq.  ARGV: task id, ttl ms, then for each queue: delayed set, bell, due or '', list, message.
# Returns the id of the task that has the key.
PUBLISH_ONCE = Script(
    SHELVE_FUNCTION
    + """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return redis.call('GET', KEYS[1]) end
for i = 3, #ARGV, 5 do
  local zset, bell, due, list, raw = ARGV[i], ARGV[i+1], ARGV[i+2], ARGV[i+3], ARGV[i+4]
  if due == '' or redis.call('PUBSUB', 'NUMSUB', bell)[2] == 0 and string.find(raw, '"eta":"', 1, true) then
    redis.call('LPUSH', list, raw)
    redis.call('PUBLISH', bell, '1')
  else
    shelve(zset, KEYS[2], bell, due, list, raw)
  end
end
return ARGV[1]
"""
)
