"""How long things take, counted in buckets that grow: fixed memory, mergeable.

In:  seconds.  Out: counts by bucket.  Bounds are powers of two between 1 ms and about 2 h.
"""

from __future__ import annotations

from bisect import bisect_left

#: upper ends of the buckets, seconds; what is longer is in the last, which has no end
BOUNDS = tuple(0.001 * 2**i for i in range(23))


class Histogram:
    """Counts of durations."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one; negative ones (clocks apart) count as none at all long."""
        seconds = max(seconds, 0.0)
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulated(self) -> list[tuple[float, int]]:
        """(upper end, how many were at most that long); the last end is infinite."""
        total, rows = 0, []
        for bound, number in zip((*BOUNDS, float("inf")), self.counts, strict=True):
            total += number
            rows.append((bound, total))
        return rows
