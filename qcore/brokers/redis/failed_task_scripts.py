"""The Lua text that stores a failure; it is part of the script that settles.

Keys begin with one prefix: `order` (sorted set: task id by the time of its failure in microseconds, each
time once), `facts`, `detail` and `retried` (hashes by task id), `dropped` (how many were deleted because of
the maximum number).
"""

from __future__ import annotations

from qcore.brokers.contract.failed_tasks import SWEPT_WITH_EACH, FailedTaskLimits
from qcore.brokers.redis.scripts import Script

KEEP_FUNCTION = f"""
local function drop_failure(p, id)
  redis.call('HDEL', p .. 'facts', id)
  redis.call('HDEL', p .. 'detail', id)
  redis.call('HDEL', p .. 'retried', id)
  return redis.call('ZREM', p .. 'order', id)
end
local function sweep_failures(p, ttl, most, count)
  local t = redis.call('TIME')
  local edge = ttl ~= '' and t[1] * 1000000 + t[2] - tonumber(ttl) or 0
  local over = redis.call('ZCARD', p .. 'order') - tonumber(most)
  local old, swept = redis.call('ZRANGE', p .. 'order', 0, count - 1, 'WITHSCORES'), 0
  for i = 1, #old, 2 do
    local expired = tonumber(old[i+1]) < edge
    if not expired and over <= 0 then break end
    drop_failure(p, old[i])
    if not expired then redis.call('INCR', p .. 'dropped') end
    over, swept = over - 1, swept + 1
  end
  return swept
end
local function keep_failure(p, id, ttl, most, facts, detail)
  local t = redis.call('TIME')
  local at = t[1] * 1000000 + t[2]
  local last = redis.call('ZRANGE', p .. 'order', -1, -1, 'WITHSCORES')[2]
  if last and tonumber(last) >= at then at = tonumber(last) + 1 end
  redis.call('ZADD', p .. 'order', string.format('%.0f', at), id)
  redis.call('HSET', p .. 'facts', id, facts)
  redis.call('HSET', p .. 'detail', id, detail)
  redis.call('HDEL', p .. 'retried', id)
  sweep_failures(p, ttl, most, {SWEPT_WITH_EACH})
end
"""

# ARGV: prefix, ttl in microseconds or '', maximum number, how many to delete at most.  Returns how many were.
SWEEP = Script(KEEP_FUNCTION + "return sweep_failures(ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]))")


def ttl_us(limits: FailedTaskLimits) -> str:
    """How long failures are kept, as the scripts' ttl argument."""
    return "" if limits.ttl_s is None else f"{limits.ttl_s * 1e6:.0f}"
