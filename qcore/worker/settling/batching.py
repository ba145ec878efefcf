"""Batch the acknowledgements of short tasks, for brokers that do not reply to a settlement.

In:  the number of waiting outcomes.  Out: whether to wait for more of them.
Redis and SQLite reply to each settlement, and the outcomes of that time make the next batch. RabbitMQ does
not reply, so each outcome would be an acknowledgement of its own, which costs the server more than the
task costs the worker. No outcome waits while a slot is free, and those of long tasks never wait.
"""

from __future__ import annotations

from qcore.pools.base import Pool

#: what waits here, and what is on its way to here, runs again after a kill
MOST = 12


class AcknowledgementBatcher:
    """longest_s: how many seconds the first outcome may wait; 0 for brokers that reply."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._until = 0.0

    def holds(self, count: int, pool: Pool, now: float) -> bool:
        """Whether `count` outcomes should wait for more; `now` is monotonic seconds."""
        if not self._longest_s or not 0 < count < MOST or not pool.ahead() or pool.is_idle():
            self._until = 0.0
            return False
        if not self._until:
            self._until = now + self._longest_s
        if now < self._until:
            return True
        self._until = 0.0
        return False

    def left_s(self, now: float) -> float | None:
        """Seconds until the outcomes are settled; None while none waits."""
        return max(self._until - now, 0.0) if self._until else None
