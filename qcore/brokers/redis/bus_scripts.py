"""Lua scripts of the control bus: inboxes, members, revoked ids."""

from __future__ import annotations

from qcore.brokers.redis.scripts import NOW, Script

# KEYS: binding set, deadlines, inboxes.  ARGV: member, exchange, prefix, separator, ms that bindings last
# (0: for ever).
# Register an inbox, and delete those whose owners died without closing them.
OPEN_INBOX = Script(
    NOW
    + """
redis.call('SADD', KEYS[1], ARGV[1])
if ARGV[5] ~= '0' then
  redis.call('ZADD', KEYS[2], 'GT', string.format('%d', t[1] * 1000 + tonumber(ARGV[5])), ARGV[2])
end
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


# KEYS: members, infos.  ARGV: node, info.  Returns the previous info, if there is one.
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


# KEYS: revoked.  ARGV: ids.  Returns those that are stored.
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

# KEYS: revoked.  ARGV: ids.  Returns how many of them were stored.
UNREVOKE = Script(
    """
local count = 0
for _, id in ipairs(ARGV) do count = count + redis.call('ZREM', KEYS[1], id) end
return count
"""
)
