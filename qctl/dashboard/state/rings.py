"""Numbers over time in fixed memory: each value stands in the slot of its time, and an empty slot is unknown.

In:  values with their time (epoch seconds).  Out: means by column of a chart; None where nothing is known.
A slot is epoch // step, so that a time without values stays a gap at its place, however long it was.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any, NamedTuple

NAN = math.nan
#: a value older than the newest by at most this is dropped; a larger step of the clock back empties the ring
LARGEST_STEP_BACK_S = 60.0
#: seconds per slot and number of slots: 15 minutes, 6 hours, 48 hours
FINE, MIDDLE, COARSE = (1, 900), (15, 1440), (120, 1440)
#: widths of a column that people can divide an hour by, seconds
NICE_STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 45, 60, 75, 90, 120, 180, 240, 300, 360, 480, 600, 720,
              900, 1200, 1800, 2400, 3600, 5400, 7200, 10800, 14400, 21600)  # fmt: skip


class Range(NamedTuple):
    """How much time the charts of the screen show."""

    words: str
    seconds: int


RANGES = (Range("15 min", 900), Range("6 h", 21_600), Range("48 h", 172_800))


class Ring:
    """The newest `size` slots of `step` seconds. With shares, values are from 0 to 1 and take one byte."""

    __slots__ = ("_count", "_last", "_shares", "_sum", "_values", "size", "step")

    def __init__(self, step: int, size: int, shares: bool = False) -> None:
        self.step, self.size, self._shares = step, size, shares
        self._values: array[Any] = array("B", [255]) * size if shares else array("f", [NAN]) * size
        self._last = -1  # the newest slot
        self._sum, self._count = 0.0, 0

    def put(self, at: float, value: float | None) -> None:
        """Add a value; a slot with several has their mean. None: the slots up to now stay unknown."""
        slot = int(at // self.step)
        if slot != self._last and not self._advance(slot):
            return
        if value is None:
            return
        self._sum += value
        self._count += 1
        mean = self._sum / self._count
        self._values[slot % self.size] = min(max(round(mean * 250), 0), 250) if self._shares else mean

    def _advance(self, slot: int) -> bool:
        """Begin another slot; False: it has passed, and its values are dropped."""
        last, size, unknown = self._last, self.size, self._unknown
        if slot < last:
            if (last - slot) * self.step <= LARGEST_STEP_BACK_S:
                return False
            self._values, last = array(self._values.typecode, [unknown]) * size, -1
        if 0 <= last < slot - 1:
            for passed in range(max(last, slot - size) + 1, slot):
                self._values[passed % size] = unknown
        self._values[slot % size] = unknown
        self._last, self._sum, self._count = slot, 0.0, 0
        return True

    def put_before(self, older: Ring) -> None:
        """Take the slots up to the newest of another ring of the same kind, which ends before, from it."""
        if self._last < 0:
            self._last = older._last
        size = self.size
        for slot in range(max(self._last, older._last) - size + 1, older._last + 1):
            self._values[slot % size] = older._values[slot % size]

    def fill(self, values: Mapping[int, float]) -> None:
        """Replace the content by the values of slots, the newest of which are kept."""
        self._values = array(self._values.typecode, [self._unknown]) * self.size
        self._last = max(values, default=-1)
        own, size, before, shares = self._values, self.size, self._last - self.size, self._shares
        for slot, value in values.items():
            if slot > before:
                own[slot % size] = min(round(value * 250), 250) if shares else value
        self._sum, self._count = 0.0, 0

    @property
    def _unknown(self) -> float | int:
        return 255 if self._shares else NAN

    def mean(self, first: int, count: int) -> float | None:
        """The mean of the known values of `count` slots from `first` on; None without one."""
        low, high = max(first, self._last - self.size + 1), min(first + count, self._last + 1)
        total, known, values, size = 0.0, 0, self._values, self.size
        for slot in range(low, high):
            value = values[slot % size]
            if value == value and not (self._shares and value == 255):
                total += value
                known += 1
        if not known:
            return None
        return total / known / 250 if self._shares else total / known

    def copy(self) -> Ring:
        made = Ring.__new__(Ring)
        made.step, made.size, made._shares = self.step, self.size, self._shares
        made._values, made._last = self._values[:], self._last
        made._sum, made._count = self._sum, self._count
        return made


class Series:
    """One number in several rings, from the finest step to the coarsest."""

    __slots__ = ("_now", "_rings")

    def __init__(
        self, rings: tuple[tuple[int, int], ...] = (FINE, MIDDLE, COARSE), shares: bool = False
    ) -> None:
        self._rings = tuple(Ring(step, size, shares) for step, size in rings)
        self._now: float | None = None

    def put(self, at: float, value: float | None) -> None:
        """Add the value of a moment; None: it is unknown."""
        for ring in self._rings:
            ring.put(at, value)
        self._now = value

    def fill(self, values: Mapping[int, float], seconds: int) -> None:
        """Replace the content by values that hold for `seconds` from epoch // seconds on."""
        for ring in self._rings:
            found = values
            if ring.step < seconds:
                last = max(values, default=0)
                least = last - ring.step * ring.size // seconds
                parts = seconds // ring.step
                found = {
                    slot * parts + n: value
                    for slot, value in values.items()
                    if slot > least
                    for n in range(parts)
                }
            elif ring.step > seconds:
                sums, counts = dict[int, float](), dict[int, int]()
                for slot, value in values.items():
                    at = slot * seconds // ring.step
                    if at in sums:
                        sums[at] += value
                        counts[at] += 1
                    else:
                        sums[at], counts[at] = value, 1
                found = {slot: whole / counts[slot] for slot, whole in sums.items()}
            ring.fill(found)

    def quiet(self) -> Series:
        """A series with 0 wherever this one is known, in steps of 15 s and more."""
        made = Series((MIDDLE, COARSE))
        for ring, own in zip(made._rings, self._rings[-2:], strict=True):
            ring._values, ring._last = array("f", [0.0 * value for value in own._values]), own._last
        return made

    def put_before(self, older: Series) -> None:
        """Take what is known of a time before from another series with the same rings."""
        for ring, other in zip(self._rings, older._rings, strict=True):
            ring.put_before(other)

    @property
    def now(self) -> float | None:
        """The newest value; None: unknown."""
        return self._now

    def columns(self, until: float, step: int, count: int) -> list[float | None]:
        """The means of `count` columns of `step` seconds; the last is the one that `until` falls into."""
        first = int(until // step) - count + 1
        ring = self._ring_for(step, count)
        slots = max(step // ring.step, 1)
        if step < ring.step:  # several columns show the same slot
            return [ring.mean((first + n) * step // ring.step, 1) for n in range(count)]
        return [ring.mean((first + n) * step // ring.step, slots) for n in range(count)]

    def at(self, moment: float, step: int) -> float | None:
        """The mean of the column of `step` seconds that the moment falls into."""
        return self.columns(moment, step, 1)[0]

    def _ring_for(self, step: int, count: int) -> Ring:
        """The finest ring whose slots fill whole columns and that reaches back far enough."""
        for ring in self._rings:
            if step % ring.step == 0 and ring.step * ring.size >= step * count:
                return ring
        return next((r for r in self._rings if r.step * r.size >= step * count), self._rings[-1])

    def copy(self) -> Series:
        """A copy that later values do not change."""
        made = Series.__new__(Series)
        made._rings, made._now = tuple(ring.copy() for ring in self._rings), self._now
        return made


def step_for(seconds: int, columns: int) -> int:
    """The shortest nice step with which so many columns show at least so many seconds."""
    return next((s for s in NICE_STEPS if s * columns >= seconds), NICE_STEPS[-1])
