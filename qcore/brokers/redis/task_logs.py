"""Task logs on Redis: a list for each task, and a sorted set of the tasks by their last log line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qcore.brokers.contract.task_logs import KEPT_S, TASKS, TaskLogs
from qcore.brokers.redis.connection import SharedConnection
from qcore.brokers.redis.keys import Keys
from qcore.brokers.redis.scripts import Script

# KEYS: the order of tasks.  ARGV: the prefix of the lists, maximum lines of a task, seconds, maximum tasks,
# then for each task its id, the number of its lines, and the lines.
KEEP_LINES = Script(
    """
local t = redis.call('TIME')
local at = string.format('%.0f', t[1] * 1000000 + t[2])
local i = 5
while i <= #ARGV do
  local id, count = ARGV[i], tonumber(ARGV[i+1])
  local name = ARGV[1] .. id
  for n = i + 2, i + 1 + count do redis.call('RPUSH', name, ARGV[n]) end
  redis.call('EXPIRE', name, ARGV[3])
  for n = 1, redis.call('LLEN', name) - tonumber(ARGV[2]) do redis.call('LPOP', name) end
  redis.call('ZADD', KEYS[1], at, id)
  i = i + 2 + count
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[4])
if over > 0 then
  for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, over - 1)) do
    redis.call('DEL', ARGV[1] .. id)
    redis.call('ZREM', KEYS[1], id)
  end
end
"""
)


class RedisTaskLogs(TaskLogs):
    """One Redis list for each task."""

    def __init__(self, shared: SharedConnection, keys: Keys) -> None:
        super().__init__("redis")
        self._shared, self._keys = shared, keys

    def append(self, lines: Mapping[str, Sequence[bytes]], most: int) -> None:
        values: list[Any] = []
        for task_id, new in lines.items():
            values += (task_id, len(new[-most:]), *new[-most:])
        self._shared.run(KEEP_LINES, (self._keys.lined,), (self._keys.line, most, KEPT_S, TASKS, *values))

    def of(self, task_id: str) -> list[bytes]:
        return list(self._shared.call("LRANGE", self._keys.line + task_id, 0, -1))
