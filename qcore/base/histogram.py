"""Durations in exponential buckets, with fixed memory.

In:  seconds.  Out: counts by bucket.  The bounds for metrics are powers of two, from 1 ms to about 70 min.
Those for percentiles grow by a tenth, from 1 ms to above an hour, so that an error is below 5 %.
"""

from __future__ import annotations

import math
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


#: the fine buckets: how many, the ratio of two neighbours, and the upper bound of the first, seconds
FINE_BUCKETS, RATIO, SHORTEST_S = 160, 1.1, 0.001
_LOG = math.log(RATIO)


def fine_bucket(seconds: float) -> int:
    """The fine bucket of a duration; the last one has all that are longer."""
    if seconds <= SHORTEST_S:
        return 0
    return min(int(math.log(seconds / SHORTEST_S) / _LOG) + 1, FINE_BUCKETS - 1)


def middle_of(number: int) -> float:
    """The duration in the middle of a fine bucket, seconds."""
    return SHORTEST_S if number == 0 else SHORTEST_S * RATIO ** (number - 0.5)
