"""Rate limits: how often a task may start on this worker. Token buckets, pure arithmetic.

In:  '10/s', '100/m', '5/h' or a number a second.  Out: how long the next start has to wait.
"""

from __future__ import annotations

import math

SLOWEST = 1e-9  # starts a second
_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}


def per_second(limit: str | float | int | None) -> float | None:
    """A rate limit as starts a second; None for no limit. Raises ValueError in words."""
    if limit is None or limit == "":
        return None
    if isinstance(limit, int | float) and not isinstance(limit, bool):
        rate = float(limit)
    else:
        count, _, unit = str(limit).partition("/")
        try:
            rate = float(count) / _PER[unit or "s"]
        except (ValueError, KeyError):
            raise ValueError(f"'{limit}' is not a rate; write 5/s, 10/m, 100/h, or 0 for no limit") from None
    if not (rate == 0 or SLOWEST <= rate < math.inf):
        raise ValueError(
            f"'{limit}' is not a rate; it is 0 or from one start in 30 years upwards, and finite"
        )
    return rate or None


#: places that are remembered for tasks which wait in the broker
PLACES_MOST = 10_000


class TokenBucket:
    """One task's starts, spread evenly: each gets the next free place in time.

    A task that has to wait goes back to the broker until its place has come, and finds it kept.
    """

    __slots__ = ("_next", "_places", "_step")

    def __init__(self, rate: float) -> None:
        self._step, self._next = 1.0 / rate, 0.0
        self._places: dict[str, float] = {}

    def reserve(self, task_id: str, now: float) -> float:
        """How many seconds from now this task may start (0: now). Times are monotonic."""
        at = self._places.pop(task_id, None)
        if at is None:
            at = max(self._next, now)
            self._next = at + self._step
        if at <= now:
            return 0.0
        self._places[task_id] = at
        if len(self._places) > PLACES_MOST:
            del self._places[next(iter(self._places))]
        return at - now
