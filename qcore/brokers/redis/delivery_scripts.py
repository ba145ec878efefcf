"""Lua scripts of deliveries: publish once, delay, claim, adopt, settle."""

from __future__ import annotations

from qcore.brokers.redis.failed_task_scripts import KEEP_FUNCTION
from qcore.brokers.redis.scripts import _MARKS, QUARANTINE_SIZE, Script

DELAY_FUNCTION = """
local function shelve(zset, seq, bell, due, list, raw)
  local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2]
  local n = string.format('%016x', redis.call('INCR', seq))
  redis.call('ZADD', zset, due, n .. list .. '\\0' .. raw)
  if not first or tonumber(due) < tonumber(first) then redis.call('PUBLISH', bell, '1') end
end
-- Only qcore's consumers read the delayed sets. Where none consumes the queue now, a message with its own
-- time (the eta header) goes to the queue at once: Celery's workers hold it until then, and a qcore
-- consumer that claims it later moves it to the set.
local function put_off(zset, seq, bell, due, list, raw)
  if redis.call('PUBSUB', 'NUMSUB', bell)[2] == 0 and string.find(raw, '"eta":"', 1, true) then
    redis.call('LPUSH', list, raw)
  else
    shelve(zset, seq, bell, due, list, raw)
  end
end
"""


# KEYS: seq.  ARGV: (zset, wake-up channel, due, list, raw)…
DELAY = Script(
    DELAY_FUNCTION
    + """
for i = 1, #ARGV, 5 do put_off(ARGV[i], KEYS[1], ARGV[i+1], ARGV[i+2], ARGV[i+3], ARGV[i+4]) end
"""
)


# KEYS: lease, ledger, paused, then the lists in order of preference (those of all queues for one step,
# then for the next), the delayed sets, the claim lists.
# ARGV: limit, first number, how many lists, how many delayed sets, how many messages go to lower
# priorities, which list such a turn starts with, where the queue starts in the name of a delayed set,
# whether the queues take turns within a step, then the source of each claim list.
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
for i = 4 + lists + shelves, #ARGV - 5 + lists + shelves do
  local source, count = ARGV[i - lists - shelves + 5], 0
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
if ARGV[8] == '1' then
  local line = {}
  for j = 1, shelves do line[j] = j - 1 end
  for step = 4, 3 + lists, shelves do
    local next = 1
    while room > 0 and next <= shelves do
      if pull(step + line[next], 1) > 0 then line[shelves] = table.remove(line, next)
      else next = next + 1 end
    end
  end
else
  for i = 4, 3 + lists do
    if room <= 0 then break end
    pull(i, room)
  end
end
if #raws > 0 then redis.call('HSET', KEYS[2], unpack(pairs_)) end
return {1, tostring(next_due), fields, raws, woken, paused}
"""
)


# Moves a message that a wake-up took and that was delivered at once from the claim list to the ledger.
# KEYS: claim list, ledger.  ARGV: field, message.  Returns 0 when it is no longer held.
ADOPT = Script(
    """
if redis.call('LREM', KEYS[1], 1, ARGV[2]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
""",
    whole=True,
)


# One round trip settles a batch.  KEYS: ledger, quarantine, seq.
# ARGV, for each delivery: field, action, and
#   'a'                            acknowledge
#   'A', key, ttl ms or '', meta   acknowledge, and store a result
#   'b', claim list, message             acknowledge a message that was never in the ledger
#   'B', claim list, message, key, ttl, meta
#   'g', how, due, extra, channel, count of steps, steps…   anything; how is one of a r t d q
#        steps: 'r', key, ttl ms, meta | 's', list, raw, channel | 'd', zset, channel, due, list, raw
#               | 'f', prefix, task id, ttl in microseconds or '', most, facts, detail
#   'G', claim list, message, how, …    the same with a message that was never in the ledger
# A delivery that is not in its place is refused, with all steps that belong to it.
SETTLE = Script(
    DELAY_FUNCTION
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
    if call('LREM', ARGV[i+2], 1, ARGV[i+3]) == 1 or call('HDEL', ledger, field) == 1 then
      store(ARGV[i+4], ARGV[i+5], ARGV[i+6])
    else refused[#refused+1] = field end
    i = i + 7
  elseif action == 'b' then
    if call('LREM', ARGV[i+2], 1, ARGV[i+3]) == 0 and call('HDEL', ledger, field) == 0 then
      refused[#refused+1] = field
    end
    i = i + 4
  else
    local raw, direct
    if action == 'G' then
      if call('LPOS', ARGV[i+2], ARGV[i+3]) then direct, raw = ARGV[i+2], ARGV[i+3] end
      i = i + 2
    end
    local how, due, extra, bell = ARGV[i+2], ARGV[i+3], ARGV[i+4], ARGV[i+5]
    local steps = tonumber(ARGV[i+6])
    raw = raw or call('HGET', ledger, field)
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
      if direct then call('LREM', direct, 1, raw) else call('HDEL', ledger, field) end
    end
  end
end
return refused
"""
)

# KEYS: key, seq.  ARGV: task id, ttl ms, then for each queue: delayed set, channel, due or '', list, message.
# Returns the id of the task that has the key.
PUBLISH_ONCE = Script(
    DELAY_FUNCTION
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
