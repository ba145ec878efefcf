"""Where a time zone changes its offset: the periods between the changes, as whole seconds.

In:  a tzinfo of any library.  Out: for an instant the period it is in, with the offset there and before it.
Only the direction from UTC to local time is asked of a zone: it alone has one answer for every instant.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timezone, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

_DAY = 86400
#: so much is looked up at once
_CHUNK = 366 * _DAY
#: what is further away than this from what is known replaces it
_FAR = 100 * _CHUNK
#: no change of an offset is as large
_MARGIN = 2 * _DAY
#: what a datetime can represent in any zone, epoch seconds: some days less than the years 1 to 9999
EARLIEST, LATEST = -62_135_000_000, 253_402_000_000


class Period(NamedTuple):
    """A time without a change of the offset: start <= instant < end, epoch seconds."""

    start: int
    end: int
    offset: int  # local time - UTC, seconds
    before: int  # the offset of the period before this one


class Zone:
    """The periods of one time zone, found when they are first needed. Thread-safe."""

    def __init__(self, tz: tzinfo) -> None:
        self._tz = tz
        # Threads may extend it at the same time: each replaces the whole, and what one finds twice is equal.
        self._table: tuple[int, int, list[int], list[int]] | None = None
        # Only of these two it is known that they can be asked for an offset that holds always.
        if isinstance(tz, timezone | ZoneInfo) and tz.utcoffset(None) is not None:
            self._table = EARLIEST, LATEST + _CHUNK, [EARLIEST], [self.offset(0)]

    def period(self, instant: int, until: int | None = None) -> Period:
        """The period that contains an instant. Its end is a change of the offset, or lies after `until`."""
        return self.periods(instant, instant, instant if until is None else until)[0]

    def periods(self, first: int, last: int, until: int | None = None) -> list[Period]:
        """The periods that contain the instants first to last, in order; the end of the last one is a change
        of the offset, or lies after `until`, which is at least `last`."""
        first, last = min(max(first, EARLIEST + _MARGIN), LATEST), min(max(last, EARLIEST + _MARGIN), LATEST)
        until = last if until is None else min(max(until, last), LATEST)
        starts, offsets, high = self._covering(first - _MARGIN, until + _MARGIN)
        at = max(0, bisect_right(starts, first) - 1)
        found: list[Period] = []
        while at < len(starts) and (starts[at] <= last or not found):
            end = starts[at + 1] if at + 1 < len(starts) else high
            found.append(Period(starts[at], end, offsets[at], offsets[at - 1] if at else offsets[at]))
            at += 1
        return found

    def _covering(self, first: int, last: int) -> tuple[list[int], list[int], int]:
        """The table, extended where needed: the starts of the periods, their offsets, the end of the last."""
        table = self._table
        if table is None or not table[0] - _FAR < first <= last < table[1] + _FAR:
            table = first, first, [first], [self.offset(first)]
        low, high, starts, offsets = table
        if first >= low and last < high:
            return starts, offsets, high
        starts, offsets = list(starts), list(offsets)
        if last >= high:
            target = last + _CHUNK
            for at, offset in self._changes(high, target, offsets[-1]):
                starts.append(at)
                offsets.append(offset)
            high = target
        if first < low:
            target = first - _CHUNK
            now = self.offset(target)
            changes = [(target, now), *self._changes(target, low, now)]
            # what was the first period started where the table did, not at a change
            starts = [at for at, _ in changes] + starts[1:]
            offsets = [offset for _, offset in changes] + offsets[1:]
            low = target
        self._table = low, high, starts, offsets
        return starts, offsets, high

    def _changes(self, start: int, end: int, offset: int) -> list[tuple[int, int]]:
        """(instant, new offset) of each change in (start, end]; offset: that at the start."""
        found = []
        for day in range(start, end, _DAY):
            stop = min(day + _DAY, end)
            new = self.offset(stop)
            if new != offset:
                found.append((self._change(day, stop, offset), new))
                offset = new
        return found

    def _change(self, low: int, high: int, offset: int) -> int:
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.offset(middle) == offset else (low, middle)
        return high

    def offset(self, instant: int) -> int:
        """Local time - UTC at an instant, seconds."""
        moment = datetime.fromtimestamp(min(max(instant, EARLIEST), LATEST), UTC).astimezone(self._tz)
        shift = moment.utcoffset()
        assert shift is not None, f"{self._tz!r} has no offset"
        return round(shift.total_seconds())


@lru_cache(maxsize=128)
def _known(tz: tzinfo) -> Zone:
    return Zone(tz)


def zone_of(tz: tzinfo) -> Zone:
    """The periods of a time zone; those of one object are found once in a process."""
    try:
        return _known(tz)
    except TypeError:  # some libraries' zones cannot be hashed
        return Zone(tz)
