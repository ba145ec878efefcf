"""A histogram of durations in exponential buckets, with fixed memory.

In:  seconds.  Out: counts by bucket.  Bounds are powers of two from 1 ms to about 70 min.
"""

from __future__ import annotations

from bisect import bisect_left

#: upper bounds of the buckets, seconds; the last bucket, for longer durations, has none
BOUNDS = tuple(0.001 * 2**i for i in range(23))


class Histogram:
    """Counts of durations."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration; a negative one (clock skew) counts as zero."""
        seconds = max(seconds, 0.0)
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulated(self) -> list[tuple[float, int]]:
        """(upper bound, number of durations up to it); the last bound is infinite."""
        total, rows = 0, []
        for bound, number in zip((*BOUNDS, float("inf")), self.counts, strict=True):
            total += number
            rows.append((bound, total))
        return rows
