"""Rate limits: how often a task may start on this worker. Token buckets, pure arithmetic.

In:  '10/s', '100/m', '5/h' or a number of starts per second.  Out: seconds until the next start is allowed.
"""

from __future__ import annotations

import math

SLOWEST = 1e-9  # starts per second
_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}


def per_second(limit: str | float | int | None) -> float | None:
    """A rate limit as starts per second; None for no limit. Raises ValueError for a malformed one."""
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


#: reserved start times that are kept for delayed tasks; beyond that the oldest is dropped
PLACES_MOST = 10_000


class TokenBucket:
    """The starts of one task, spread evenly: each call reserves the next free start time.

    A message that must wait is delayed in the broker until its start time, which stays reserved.
    """

    __slots__ = ("_next", "_places", "_step")

    def __init__(self, rate: float) -> None:
        self._step, self._next = 1.0 / rate, 0.0
        self._places: dict[str, float] = {}

    def reserve(self, task_id: str, now: float) -> float:
        """In how many seconds this task may start (0: now). `now` is monotonic seconds."""
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
