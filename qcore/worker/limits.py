"""Rate limits: how often a task may start on this worker. Token buckets, pure arithmetic.

In:  '10/s', '100/m', '5/h' or a number a second.  Out: how long the next start has to wait.
"""

from __future__ import annotations

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
    if rate < 0 or rate != rate:
        raise ValueError(f"'{limit}' is not a rate; it must not be negative")
    return rate or None


class Bucket:
    """One task's tokens; at most one may be saved up, so that starts are spread evenly."""

    __slots__ = ("_next", "_step")

    def __init__(self, rate: float) -> None:
        self._step, self._next = 1.0 / rate, 0.0

    def reserve(self, now: float) -> float:
        """Take the next start; how many seconds from now it is (0: at once)."""
        at = max(self._next, now)
        self._next = at + self._step
        return at - now
