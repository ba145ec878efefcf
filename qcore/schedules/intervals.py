"""When an interval ends, also a relative one, which ends on the clock: at a full hour, at midnight.

In:  an instant and the length of the interval.  Out: the instant at which it ends.

A relative interval of a day or more ends at midnight, of an hour or more at a full hour, of a minute or more
at a full minute, and any other at a full second, always of the local clock: the last of these that is not
after its plain end, and not before its start. Days are days of the calendar. As in Celery.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from qcore.schedules.zones import Period, Zone, zone_of

_DAY_S, _HOUR_S, _MINUTE_S = 86400, 3600, 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def epoch_us(moment: datetime) -> int:
    """An aware datetime as epoch microseconds."""
    return (moment - _EPOCH) // _US if moment.tzinfo is UTC else (moment.astimezone(UTC) - _EPOCH) // _US


def moment_of(us: int) -> datetime:
    """Epoch microseconds as a datetime in UTC. Raises OverflowError."""
    return _EPOCH + timedelta(microseconds=us)


def end_of(start: datetime, every: timedelta, relative: bool = False) -> datetime:
    """When an interval ends that starts at an aware datetime; in UTC."""
    if not relative:
        return start.astimezone(UTC) + every
    tz = start.tzinfo
    assert tz is not None, "the start has no time zone"
    return moment_of(relative_end(epoch_us(start), every // _US, tz))


def relative_end(start_us: int, every_us: int, tz: tzinfo) -> int:
    """When a relative interval ends, epoch microseconds; at its start if it is shorter than a second."""
    every_s = every_us // 1_000_000
    last = (start_us + every_us) // 1_000_000
    if every_s < _MINUTE_S:
        return last * 1_000_000
    zone = zone_of(tz)
    start = start_us // 1_000_000
    if every_s >= _DAY_S:
        return _midnight(zone, start, start_us, every_us) * 1_000_000
    unit = _HOUR_S if every_s >= _HOUR_S else _MINUTE_S
    found = _full_before(zone, last, unit)
    return (found if found > start else _full_after(zone, start, unit)) * 1_000_000


def _midnight(zone: Zone, start: int, start_us: int, every_us: int) -> int:
    """Midnight of the local day that contains the time on the clock at the start plus the interval."""
    wall = start_us + zone.offset(start) * 1_000_000 + every_us
    day = wall // (_DAY_S * 1_000_000) * _DAY_S
    both = _instants_of(zone, day)
    later = [at for at in both if at > start]
    return min(later) if later else _instants_of(zone, wall // 1_000_000)[0]


def _instants_of(zone: Zone, wall: int) -> list[int]:
    """The instants at which the clock shows this; the end of the gap if it never does."""
    periods = zone.periods(wall - 100_000, wall + 100_000)
    found = [wall - p.offset for p in periods if p.start <= wall - p.offset < p.end]
    return found or [p.start for p in periods if p.start + p.before <= wall < p.start + p.offset]


def _full_before(zone: Zone, instant: int, unit: int) -> int:
    """The last full hour or minute on the clock at or before an instant."""
    while True:
        period = zone.period(instant)
        found = (instant + period.offset) // unit * unit - period.offset
        if found >= period.start:
            return found
        if _starts_full(period, unit):
            return period.start
        instant = period.start - 1


def _full_after(zone: Zone, instant: int, unit: int) -> int:
    """The first full hour or minute on the clock after an instant."""
    while True:
        period = zone.period(instant, instant + unit)
        found = ((instant + period.offset) // unit + 1) * unit - period.offset
        if found < period.end:
            return found
        instant = period.end
        after = zone.period(instant)
        if _starts_full(after, unit) or (instant + after.offset) % unit == 0:
            return instant


def _starts_full(period: Period, unit: int) -> bool:
    """Whether a full hour or minute is in the gap before a period."""
    was, clock = period.start + period.before, period.start + period.offset
    return was < clock and -(-was // unit) * unit < clock
