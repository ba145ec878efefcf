"""How long things take, counted in buckets: percentiles with an error below 5 %, without samples.

In:  durations in seconds with their time.  Out: percentiles of a range, and the counts of a heat map.
Buckets grow by 10 %; counts of several times or tasks can be added up.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from operator import add

from qcore.base.histogram import FINE_BUCKETS, fine_bucket, middle_of
from qctl.dashboard.state.rings import RANGES

#: for each range, seconds per histogram: a range has five to eight of them
SPANS = (180, 3_600, 21_600)
#: below so many values, percentiles are not given
LEAST = 20
#: upper ends of the rows of a heat map, seconds; the last row has no end
EDGES_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
ROWS = len(EDGES_S) + 1
#: seconds per column of the heat map, and their number, for each range
HEAT = ((5, 200), (120, 200), (1_200, 160))

Counts = Sequence[int]

_ROW_OF = tuple(sum(middle_of(n) > edge for edge in EDGES_S) for n in range(FINE_BUCKETS))


def row_of(seconds: float) -> int:
    """The row of a heat map for a duration."""
    return _ROW_OF[fine_bucket(seconds)]


def rows_of(counts: Counts) -> list[int]:
    """A histogram as counts of the rows of a heat map, from the shortest on."""
    made = [0] * ROWS
    for number, count in enumerate(counts):
        made[_ROW_OF[number]] += count
    return made


def add_up(counts: Iterable[Counts]) -> array[int]:
    """The sum of several histograms."""
    made = array("I", [0]) * FINE_BUCKETS
    for one in counts:
        made = array("I", map(add, made, one))
    return made


def percentile(counts: Counts, share: float) -> float | None:
    """The duration below which `share` (0 to 1) of the values lie, seconds; None without values."""
    total = sum(counts)
    if not total:
        return None
    wanted, passed = max(1, math.ceil(total * share)), 0
    for number, count in enumerate(counts):
        passed += count
        if passed >= wanted:
            return middle_of(number)
    return None


class Durations:
    """Histograms of one kind of duration, for the ranges of the screen."""

    __slots__ = ("_old", "_open", "_slot", "total")

    def __init__(self) -> None:
        self._open: array[int] | None = None  # of the current span of the first range
        self._slot = -1
        self._old: tuple[dict[int, array[int]], ...] = tuple({} for _ in SPANS)
        self.total = 0

    def add(self, at: float, seconds: float, count: int = 1) -> None:
        slot = int(at // SPANS[0])
        if self._open is None or slot != self._slot:
            self._close()
            self._open, self._slot = array("I", [0]) * FINE_BUCKETS, slot
        self._open[fine_bucket(seconds)] += count
        self.total += count

    def _close(self) -> None:
        """Put the current span to the others, and forget what is older than the ranges."""
        if self._open is None:
            return
        for spans, span, wanted in zip(self._old, SPANS, RANGES, strict=True):
            slot = self._slot * SPANS[0] // span
            kept = spans.get(slot)
            spans[slot] = self._open[:] if kept is None else add_up((kept, self._open))
            for old in [s for s in spans if s < slot - wanted.seconds // span]:
                del spans[old]
        self._open = None

    def within(self, range_number: int, until: float) -> array[int]:
        """The histogram of a range that ends at `until`."""
        span = SPANS[range_number]
        first = (until - RANGES[range_number].seconds) // span + 1
        found = [counts for slot, counts in list(self._old[range_number].items()) if slot >= first]
        if self._open is not None and self._slot * SPANS[0] // span >= first:
            found.append(self._open)
        return found[0][:] if len(found) == 1 else add_up(found)

    def put_before(self, older: Durations) -> None:
        """Add the counts of a time before, to which nothing is added any more."""
        older._close()
        for spans, others in zip(self._old, older._old, strict=True):
            for slot, counts in others.items():
                spans[slot] = add_up((spans[slot], counts)) if slot in spans else counts
        self.total += older.total

    def copy(self) -> Durations:
        made = Durations()
        made._open = self._open[:] if self._open is not None else None
        made._slot, made.total = self._slot, self.total
        made._old = tuple(dict(spans) for spans in self._old)
        return made


class HeatMap:
    """Counts by time and duration: columns of HEAT by ROWS rows, for each range."""

    __slots__ = ("_columns",)

    def __init__(self) -> None:
        self._columns: tuple[dict[int, array[int]], ...] = tuple({} for _ in HEAT)

    def add(self, at: float, seconds: float, count: int = 1) -> None:
        row = row_of(seconds)
        for columns, (step, most) in zip(self._columns, HEAT, strict=True):
            slot = int(at // step)
            column = columns.get(slot)
            if column is None:
                column = columns[slot] = array("I", [0]) * ROWS
                for old in [s for s in columns if s <= slot - most - 1]:
                    del columns[old]
            column[row] += count

    def within(self, range_number: int, until: float, step: int, count: int) -> list[list[int] | None]:
        """The columns of a chart, each with its rows from the shortest on; None: nothing ended then."""
        own, columns = HEAT[range_number][0], self._columns[range_number]
        last, made = int(until // step), list[list[int] | None]()
        for number in range(last - count + 1, last + 1):
            slots = range(
                number * step // own, max(((number + 1) * step - 1) // own, number * step // own) + 1
            )
            found = [columns[slot] for slot in slots if slot in columns]
            made.append([sum(row) for row in zip(*found, strict=True)] if found else None)
        return made

    def put_before(self, older: HeatMap) -> None:
        """Add the counts of a time before."""
        for columns, others in zip(self._columns, older._columns, strict=True):
            for slot, column in others.items():
                own = columns.get(slot)
                columns[slot] = column if own is None else array("I", map(add, own, column))

    def copy(self) -> HeatMap:
        made = HeatMap()
        made._columns = tuple({s: c[:] for s, c in list(columns.items())} for columns in self._columns)
        return made
