"""Autoscaling: grow and shrink the pool with the load.

In:  the number of busy slots, and the backlog of the broker (queried only while every slot is busy).
Out: a pool that has grown or shrunk. While messages wait it grows by up to half its size at each check. If
not all slots were busy for `keepalive_s`, it shrinks to the highest number that were. A pool without slots
gets its first one with its next job (Pool.take).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from qcore.errors import ConfigError
from qcore.pools.base import Pool

log = logging.getLogger("qcore.worker")

KEEPALIVE_S = 30.0
#: seconds between two checks
LOOK_S = 0.2


class Autoscaler:
    """Only the loop's thread calls it, except info()."""

    def __init__(self, pool: Pool, most: int, least: int, keepalive_s: float) -> None:
        self._pool, self.most, self.least, self._keepalive_s = pool, most, least, keepalive_s
        self._size = least  # at the last check
        self._needed = 0  # the highest number of busy slots since _since
        self._since = 0.0
        self._next_look = 0.0

    def look(self, waiting: Callable[[], int], now: float) -> None:
        """Check, and resize the pool. `waiting` counts the messages that wait for a slot; `now` is monotonic
        seconds."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_S
        size, busy = self._pool.size, self._pool.busy()
        if size > self._size:
            self._begin(now)  # it has got its first slot, or a request has made it grow
        self._size = size
        if size < self.least:
            self._grow(self.least - size, now)
        elif size > self.most:
            self._shrink(size - self.most, now)
        elif busy >= size:
            self._begin(now)
            more = min(max(size // 2, 1), self.most - size)
            if more > 0 and (count := waiting()) > 0:
                self._grow(min(more, count), now)
        else:
            self._needed = max(self._needed, busy)
            if now - self._since >= self._keepalive_s:
                spare = size - max(self._needed, self.least)
                if spare > 0:
                    self._shrink(spare, now)
                self._begin(now)

    def _begin(self, now: float) -> None:
        self._needed, self._since = 0, now

    def _grow(self, n: int, now: float) -> None:
        self._pool.grow(n)
        self._begin(now)
        log.info("the pool grew by %d to %d", n, self._pool.size)

    def _shrink(self, n: int, now: float) -> None:
        self._pool.shrink(n)
        self._begin(now)
        log.info("the pool shrank by %d to %d", n, self._pool.size)

    def change(self, most: int, least: int) -> None:
        """Set other bounds; the pool is resized at the next check."""
        self.most, self.least = most, least
        self._next_look = 0.0

    def info(self) -> dict[str, Any]:
        """The bounds and sizes for `inspect stats`, with Celery's keys."""
        size = self._pool.size
        return {"max": self.most, "min": self.least, "current": size, "qty": self._pool.busy()}


def bounds(value: str | tuple[int, ...], most: int) -> tuple[int, int]:
    """`MAX,MIN`, in any order, or `MAX` as two numbers; MIN is 0 by default. Raises ConfigError."""
    try:
        if isinstance(value, str):
            value = tuple(sorted(map(int, value.split(",")), reverse=True))
        upper, lower = value if len(value) == 2 else (*value, 0)
    except ValueError:
        raise ConfigError(f"--autoscale takes MAX,MIN such as 10,2, not '{value}'") from None
    if not 0 <= lower <= upper <= most or not upper:
        raise ConfigError(f"--autoscale takes MAX,MIN with 0 <= MIN <= MAX <= {most}, not {upper},{lower}")
    return upper, lower


def keepalive_s(environ: Mapping[str, str] = os.environ) -> float:
    """Seconds that slots may be idle, from the environment variable AUTOSCALE_KEEPALIVE, as in Celery. Raises
    ConfigError."""
    text = environ.get("AUTOSCALE_KEEPALIVE", "")
    try:
        return float(text) if text else KEEPALIVE_S
    except ValueError:
        raise ConfigError(f"AUTOSCALE_KEEPALIVE is a number of seconds, not '{text}'") from None
