"""Outcomes of short tasks wait a moment for each other, where the broker does not make them.

Redis and SQLite answer each settlement, and what ends meanwhile makes the next batch. RabbitMQ answers
none, so each outcome would be an acknowledgement of its own, which costs the server more than the task
cost us. Nothing waits while a slot is free, and long tasks do not wait at all.
"""

from __future__ import annotations

from qcore.pools.base import Pool

MOST = 32
#: tasks are short when a slot takes so many ahead
SHORT = 8


class AcknowledgementBatcher:
    """longest_s: how long the first may wait, in seconds; 0 for brokers that answer."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._until = 0.0

    def holds(self, count: int, pool: Pool, now: float) -> bool:
        """Whether so many outcomes are better told a little later; `now` is monotonic."""
        if not self._longest_s or not 0 < count < MOST or pool.pace.depth < SHORT or pool.is_idle():
            self._until = 0.0
            return False
        if not self._until:
            self._until = now + self._longest_s
        if now < self._until:
            return True
        self._until = 0.0
        return False

    def left_s(self, now: float) -> float | None:
        """Until they are told; None while nothing is held."""
        return max(self._until - now, 0.0) if self._until else None
