"""Failed tasks on Redis: stored by the script that settles, listed in pages, retried in one step.

Lua never parses what is stored; `failed_task_scripts.py` lists the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qcore.base.crashpoints import crashpoint
from qcore.brokers.contract.failed_tasks import (
    FailedTaskCounts,
    FailedTaskLimits,
    FailedTaskPage,
    FailedTaskStore,
    RetryRequest,
)
from qcore.brokers.redis.connection import SharedConnection
from qcore.brokers.redis.failed_task_scripts import KEEP_FUNCTION, ttl_us
from qcore.brokers.redis.keys import Keys
from qcore.brokers.redis.scripts import Script
from qcore.wire.failure import FailedTask, join, split

AT_ONCE = 500  # entries per script call, so that no call blocks the server for long

# ARGV: prefix, ttl in microseconds or '', maximum number, then for each: id, facts, detail.
KEEP = Script(
    KEEP_FUNCTION
    + """
for i = 4, #ARGV, 3 do keep_failure(ARGV[1], ARGV[i], ARGV[2], ARGV[3], ARGV[i+1], ARGV[i+2]) end
"""
)

_ROW = """
local t, p = redis.call('TIME'), ARGV[1]
local rows = {t[1] * 1000000 + t[2]}
local function row(id, at, whole)
  local facts = redis.call('HGET', p .. 'facts', id)
  if not facts then return end
  local n = #rows
  rows[n+1], rows[n+2], rows[n+3] = id, at, facts
  rows[n+4] = redis.call('HGET', p .. 'retried', id) or ''
  rows[n+5] = whole and redis.call('HGET', p .. 'detail', id) or ''
end
"""

# ARGV: prefix, newest, oldest, limit, '1' for all fields.
# Returns {now in microseconds, then for each: id, time, facts, retry's id, detail}, and the last time.
PAGE = Script(
    _ROW
    + """
local newest, oldest = ARGV[2], ARGV[3]
local found = redis.call('ZREVRANGEBYSCORE', p .. 'order', newest, oldest, 'WITHSCORES', 'LIMIT', 0, ARGV[4])
for i = 1, #found, 2 do row(found[i], found[i+1], ARGV[5] == '1') end
return {rows, #found == 2 * tonumber(ARGV[4]) and found[#found] or ''}
"""
)

# ARGV: prefix, ids.  Returns as PAGE; the times are those of the workers' clocks.
THESE = Script(
    _ROW
    + """
for i = 2, #ARGV do row(ARGV[i], '', true) end
return {rows, ''}
"""
)

# ARGV: prefix, ids.  Returns how many existed.
FORGET = Script(
    KEEP_FUNCTION
    + """
local count = 0
for i = 2, #ARGV do count = count + drop_failure(ARGV[1], ARGV[i]) end
return count
"""
)

# ARGV: prefix, then for each: failed id, new id, list, wake-up channel, message.  Returns each retry's id.
RETRY = Script(
    """
local p, owners = ARGV[1], {}
for i = 2, #ARGV, 5 do
  local id, owner = ARGV[i], ''
  if redis.call('HGET', p .. 'facts', id) then
    owner = redis.call('HGET', p .. 'retried', id)
    if not owner then
      owner = ARGV[i+1]
      redis.call('HSET', p .. 'retried', id, owner)
      redis.call('LPUSH', ARGV[i+2], ARGV[i+4])
      redis.call('PUBLISH', ARGV[i+3], '1')
    end
  end
  owners[#owners+1] = owner
end
return owners
"""
)


class RedisFailedTasks(FailedTaskStore):
    """Failed tasks of one broker."""

    def __init__(
        self,
        shared: SharedConnection,
        keys: Keys,
        limits: FailedTaskLimits,
        published_to: Callable[[Sequence[str]], None],
    ) -> None:
        """published_to does what remains of publishing once a script has published to these queues."""
        super().__init__("redis")
        self._shared, self._keys, self._limits = shared, keys, limits
        self._published_to = published_to

    def store(self, failures: Sequence[FailedTask]) -> None:
        limits = self._limits
        for start in range(0, len(failures), AT_ONCE):
            values = [v for f in failures[start : start + AT_ONCE] for v in (f.task_id, *split(f))]
            self._shared.run(KEEP, (), (self._keys.failures, ttl_us(limits), limits.most, *values))

    def page(
        self,
        since: float | None = None,
        until: float | None = None,
        limit: int = AT_ONCE,
        after: str = "",
        whole: bool = False,
    ) -> FailedTaskPage:
        newest = f"({after}" if after else "+inf" if until is None else f"{until * 1e6:.0f}"
        oldest = "-inf" if since is None else f"{since * 1e6:.0f}"
        arguments = (self._keys.failures, newest, oldest, max(1, min(limit, AT_ONCE)), "1" if whole else "")
        rows, cursor = self._shared.run(PAGE, (), arguments)
        return FailedTaskPage(_read(rows), cursor.decode())

    def of(self, task_ids: Sequence[str]) -> list[FailedTask | None]:
        found: dict[str, FailedTask] = {}
        for start in range(0, len(task_ids), AT_ONCE):
            some = task_ids[start : start + AT_ONCE]
            rows, _ = self._shared.run(THESE, (), (self._keys.failures, *some))
            found.update({f.task_id: f for f in _read(rows)})
        return [found.get(task_id) for task_id in task_ids]

    def forget(self, task_ids: Sequence[str]) -> int:
        parts = [task_ids[start : start + AT_ONCE] for start in range(0, len(task_ids), AT_ONCE)]
        return sum(int(self._shared.run(FORGET, (), (self._keys.failures, *some))) for some in parts)

    def retry(self, tries: Sequence[RetryRequest]) -> list[str]:
        keys, owners = self._keys, list[str]()
        crashpoint("before_publish")
        for start in range(0, len(tries), AT_ONCE):
            values = [
                value
                for one in tries[start : start + AT_ONCE]
                for value in (
                    one.failed_id,
                    one.task_id,
                    keys.list_for(one.queue, one.priority),
                    keys.bell(one.queue),
                    one.raw,
                )
            ]
            owners += [owner.decode() for owner in self._shared.run(RETRY, (), (keys.failures, *values))]
        self._published_to([one.queue for one in tries])
        crashpoint("published")
        return owners

    def counts(self) -> FailedTaskCounts:
        kept = self._shared.call("ZCARD", self._keys.failures + "order")
        return FailedTaskCounts(
            int(kept), int(self._shared.call("GET", self._keys.failures + "dropped") or 0)
        )


def _read(rows: list[Any]) -> list[FailedTask]:
    now, found = int(rows[0]) / 1e6, []
    for at in range(1, len(rows), 5):
        _, time_us, facts, retried_as, detail = rows[at : at + 5]
        failed_at = int(float(time_us)) / 1e6 if time_us else None
        one = join(facts, detail, failed_at, retried_as.decode())
        if failed_at is None or one.ttl_s is None or failed_at + one.ttl_s > now:
            found.append(one)
    return found
