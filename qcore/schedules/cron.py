"""The instants of a crontab: first as times on a wall clock, then as instants of a time zone.

In:  the five fields as sets, a time zone.  Out: the instants, epoch seconds.

Times on a wall clock are seconds since 1970 as if the clock showed UTC. What happens when a zone changes its
offset (daylight saving time) is one of:

- once: each time on the wall clock is one instant. One that occurs twice is the first; one that does not
  exist is the first instant after the gap, and several of them in one gap are one instant.
- each: every instant counts at which the clock shows such a time. So what runs each hour, or each five
  minutes, goes on doing so.
- auto: each with all 24 hours, once with fixed hours.
"""

from __future__ import annotations

from bisect import bisect_left
from calendar import isleap
from collections.abc import Set
from datetime import MAXYEAR, date, tzinfo
from functools import lru_cache

from qcore.schedules.fields import LONGEST_MONTHS
from qcore.schedules.zones import LATEST, Zone, zone_of

_DAY_S = 86400
#: the day number of date.toordinal() of 1970-01-01
_EPOCH = date(1970, 1, 1).toordinal()
#: February 29 is a certain weekday at least once in so many years
_MOST_YEARS = 41
_MOST_KNOWN = 100


class WallTimes:
    """The times on a wall clock at which a crontab runs. A day must be in all of day_of_month, month_of_year
    and day_of_week, as in Celery; cron's files take one of the first and the last."""

    def __init__(
        self,
        minute: Set[int],
        hour: Set[int],
        day_of_month: Set[int],
        month_of_year: Set[int],
        day_of_week: Set[int],
    ) -> None:
        self.every_hour = len(hour) == 24
        self._minutes, self._hours = sorted(minute), sorted(hour)
        self._daily = len(minute) * len(hour)
        self._dates = _dates(frozenset(day_of_month), frozenset(month_of_year), frozenset(day_of_week))

    def next(self, wall: int) -> int | None:
        """The first time at or after this one; None if there is none before the end of the calendar."""
        day, second = divmod(wall, _DAY_S)
        at = self._before(second)
        found = self._dates.next(day if at < self._daily else day + 1)
        if found is None:
            return None
        hour, minute = divmod(at if found == day else 0, len(self._minutes))
        return found * _DAY_S + self._hours[hour] * 3600 + self._minutes[minute] * 60

    def count(self, start: int, end: int) -> int:
        """How many times there are with start <= time < end."""
        if end <= start:
            return 0
        (first, start_s), (last, end_s) = divmod(start, _DAY_S), divmod(end, _DAY_S)
        before, until = self._before(start_s), self._before(end_s)
        if first == last:
            return (until - before) * self._dates.count(first, first + 1)
        return (
            (self._daily - before) * self._dates.count(first, first + 1)
            + self._daily * self._dates.count(first + 1, last)
            + until * (self._dates.count(last, last + 1) if until else 0)
        )

    def _before(self, second: int) -> int:
        """How many times of a day are before this second of it."""
        hour, minute = divmod(-(-second // 60), 60)
        at = bisect_left(self._hours, hour)
        found = at * len(self._minutes)
        if at < len(self._hours) and self._hours[at] == hour:
            found += bisect_left(self._minutes, minute)
        return found


class Dates:
    """The days of a crontab, as numbers since 1970. Thread-safe."""

    def __init__(self, days: frozenset[int], months: frozenset[int], weekdays: frozenset[int]) -> None:
        self._days, self._months, self._weekdays = sorted(days), sorted(months), weekdays
        self._known: dict[int, int | None] = {}  # what next() has found

    def next(self, day: int) -> int | None:
        """The first day at or after this one; None if there is none before the end of the calendar."""
        known = self._known
        if day not in known:
            if len(known) > _MOST_KNOWN:
                self._known = known = {}
            known[day] = self._found(day)
        return known[day]

    def _found(self, day: int) -> int | None:
        try:
            start = date.fromordinal(day + _EPOCH)
        except (ValueError, OverflowError):
            return None  # after the end of the calendar
        at = bisect_left(self._days, start.day)
        for month in self._months:
            if month >= start.month:
                for found in self._in_month(start.year, month, at if month == start.month else 0):
                    return found
        for year in range(start.year + 1, min(start.year + _MOST_YEARS, MAXYEAR) + 1):
            for month in self._months:
                for found in self._in_month(year, month):
                    return found
        return None

    def count(self, first: int, end: int) -> int:
        """How many days there are with first <= number < end."""
        if end <= first:
            return 0
        start, last = date.fromordinal(first + _EPOCH), date.fromordinal(end - 1 + _EPOCH)
        total = 0
        for year in range(start.year, last.year + 1):
            for month in self._months:
                if (start.year, start.month) < (year, month) < (last.year, last.month):
                    total += len(self._in_month(year, month))
                elif (start.year, start.month) <= (year, month) <= (last.year, last.month):
                    total += sum(first <= day < end for day in self._in_month(year, month))
        return total

    def _in_month(self, year: int, month: int, at: int = 0) -> list[int]:
        """The numbers of the days in a month; at: the first day of the month that counts, by its place."""
        length = LONGEST_MONTHS[month]
        if month == 2 and not isleap(year):
            length = 28
        before = date(year, month, 1).toordinal() - 1
        weekdays = self._weekdays
        days = self._days[at:] if at else self._days
        return [before + d - _EPOCH for d in days if d <= length and (before + d) % 7 in weekdays]


_dates = lru_cache(maxsize=256)(Dates)  # thousands of entries differ in their times more than in their days


class CronTimes:
    """The instants of a crontab in a time zone."""

    def __init__(self, walls: WallTimes, tz: tzinfo, dst: str = "auto") -> None:
        self._walls, self._zone = walls, zone_of(tz)
        self._each = walls.every_hour if dst == "auto" else dst == "each"

    def after(self, instant: int) -> int | None:
        """The first instant after this one; None if there is none before the end of the calendar."""
        if instant >= LATEST:
            return None
        found = (self._after_real if self._each else self._after_fixed)(instant)
        return found if found is None or found <= LATEST else None

    def count(self, start: int, end: int) -> int:
        """How many instants there are with start <= instant < end."""
        end = min(end, LATEST + 1)
        return (self._count_real if self._each else self._count_fixed)(start, end)

    def _after_real(self, instant: int) -> int | None:
        """The first instant after this one at which the clock shows such a time."""
        at = instant + 1
        while True:
            period = self._zone.period(at)
            wall = self._walls.next(at + period.offset)
            if wall is None:
                return None
            found = wall - period.offset
            if found < period.end:
                return found
            period = self._zone.period(at, found)  # its end may have been that of what is known
            if found < period.end:
                return found
            at = period.end

    def _after_fixed(self, instant: int) -> int | None:
        """The first instant after this one that stands for a time on the wall clock."""
        period = self._zone.period(instant)
        # What the clock shows for the second time has had its instant.
        wall = self._walls.next(max(instant + 1 + period.offset, period.start + period.before))
        if wall is None:
            return None
        found = wall - period.offset
        return found if found < period.end else _instant(self._zone, wall)

    def _count_real(self, start: int, end: int) -> int:
        total = 0
        for period in self._zone.periods(start, end):
            first, last = max(start, period.start), min(end, period.end)
            total += self._walls.count(first + period.offset, last + period.offset)
        return total

    def _count_fixed(self, start: int, end: int) -> int:
        total = 0
        for period in self._zone.periods(start, end):
            first, last = max(start, period.start), min(end, period.end)
            if first >= last:
                continue
            clock = period.start + period.offset  # what the clock shows when the period starts
            was = period.start + period.before
            total += self._walls.count(max(first + period.offset, was), last + period.offset)
            if was < clock and first == period.start:
                # all times in the gap are this one instant, and so is the first time behind it
                total += bool(self._walls.count(was, clock)) and not self._walls.count(clock, clock + 1)
        return total


def _instant(zone: Zone, wall: int) -> int:
    """The instant of a time on the wall clock: the first of two, or the end of the gap that it is in."""
    for period in zone.periods(wall - 100_000, wall + 100_000):
        if wall < period.start + period.offset:
            return period.start
        if wall < period.end + period.offset:
            return wall - period.offset
    raise AssertionError(f"no offset for {wall}")
