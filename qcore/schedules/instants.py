"""The instants of a schedule: when it runs.

In:  a spec (specs.py) and a time zone.  Out: instants, epoch microseconds.
After this: qcore/beat/, which decides what becomes of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from datetime import timedelta, tzinfo
from functools import lru_cache
from typing import Any

from qcore.errors import BadSchedule, ConfigError
from qcore.schedules.cron import CronTimes, WallTimes
from qcore.schedules.fields import FIELDS, check_date, sets
from qcore.schedules.intervals import relative_end
from qcore.schedules.sun import SunTimes

_S = 1_000_000
_MINUTE_US, _HOUR_US = 60 * _S, 3600 * _S


class Instants(ABC):
    """The instants of one schedule. Thread-safe."""

    @abstractmethod
    def after(self, us: int) -> int | None:
        """The first instant after this one; None if there is none. An interval is counted from `us`."""

    @abstractmethod
    def pending(self, after_us: int, until_us: int, most: int) -> tuple[list[int], int]:
        """The newest `most` instants with after < instant <= until, oldest first, and how many there are."""


class Interval(Instants):
    """Every so many seconds."""

    def __init__(self, every_us: int) -> None:
        self._every = every_us

    def after(self, us: int) -> int | None:
        return us + self._every

    def pending(self, after_us: int, until_us: int, most: int) -> tuple[list[int], int]:
        total = max(0, (until_us - after_us) // self._every)
        first = max(0, total - max(0, most))
        return [after_us + self._every * n for n in range(first + 1, total + 1)], total


class RelativeInterval(Instants):
    """Every so many seconds, at least one, each rounded down to a full second, minute, hour or day."""

    def __init__(self, every_us: int, tz: tzinfo) -> None:
        self._every, self._tz = every_us, tz
        unit = _S if every_us < _MINUTE_US else _MINUTE_US
        # From one full second or minute to the next it is a plain interval, whatever the time zone does.
        self._plain = Interval(every_us // unit * unit) if every_us < _HOUR_US else None

    def after(self, us: int) -> int | None:
        found = relative_end(us, self._every, self._tz)
        return found if found > us else us + self._every  # it never goes back or stays

    def pending(self, after_us: int, until_us: int, most: int) -> tuple[list[int], int]:
        found: deque[int] = deque(maxlen=max(0, most))
        total, at = 0, after_us
        while (at := self.after(at) or until_us + 1) <= until_us:
            total += 1
            found.append(at)
            if self._plain is not None:
                newest, more = self._plain.pending(at, until_us, most)
                found.extend(newest)
                return list(found), total + more
        return list(found), total


class Cron(Instants):
    """The times of a crontab in a time zone."""

    def __init__(self, times: CronTimes) -> None:
        self._times = times

    def after(self, us: int) -> int | None:
        found = self._times.after(us // _S)
        return None if found is None else found * _S

    def pending(self, after_us: int, until_us: int, most: int) -> tuple[list[int], int]:
        start, end = after_us // _S + 1, until_us // _S + 1
        total = self._times.count(start, end) if start < end else 0
        if not total or most <= 0:
            return [], total
        # Few of many: a time that is not much longer than the newest ones take.
        width = 64 * 60
        while end - width > start and self._times.count(end - width, end) < most:
            width *= 2
        found: deque[int] = deque(maxlen=most)
        at = self._times.after(max(start, end - width) - 1)
        while at is not None and at < end:
            found.append(at * _S)
            at = self._times.after(at)
        return list(found), total


class Solar(Instants):
    """The events of the sun at a place."""

    def __init__(self, times: SunTimes) -> None:
        self._times = times

    def after(self, us: int) -> int | None:
        found = self._times.after(us)
        return None if found is None else found * _S

    def pending(self, after_us: int, until_us: int, most: int) -> tuple[list[int], int]:
        found: deque[int] = deque(maxlen=max(0, most))
        total, at = 0, self.after(after_us)
        while at is not None and at <= until_us:
            total += 1
            found.append(at)
            at = self.after(at)
        return list(found), total


def instants(spec: dict[str, Any], tz: tzinfo, dst: str = "auto") -> Instants:
    """The instants of a spec; dst: see cron.py. Raises BadSchedule if it is not valid, and ConfigError for a
    schedule that only the project's code can compute and for a solar one without ephem."""
    kind = spec.get("kind")
    try:
        if kind == "interval":
            every_us = timedelta(seconds=spec["every_s"]) // timedelta(microseconds=1)
            if every_us <= 0:
                raise BadSchedule(f"an interval is longer than 0 s, and this one is {spec['every_s']} s")
            # Rounded to full seconds, a shorter one would end where it starts.
            rounded = spec.get("relative") and every_us >= _S
            return RelativeInterval(every_us, tz) if rounded else Interval(every_us)
        if kind == "crontab":
            return Cron(CronTimes(wall_times(spec), tz, dst))
        if kind == "solar":
            return Solar(SunTimes(spec["event"], float(spec["lat"]), float(spec["lon"])))
    except BadSchedule:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise BadSchedule(
            f"a schedule of the kind {kind} lacks a field, or has an invalid one: {exc!r}"
        ) from exc
    if kind == "code":
        text = spec.get("text", "")
        raise ConfigError(
            f"the schedule {text} can only be computed by the project's code; start a scheduler that loads it"
        )
    raise BadSchedule(f"there is no kind of schedule '{kind}'; known: interval, crontab, solar, code")


def wall_times(spec: dict[str, Any]) -> WallTimes:
    """The times of the spec of a crontab. Raises BadSchedule."""
    return _wall_times(*(spec.get(name, "*") for name in FIELDS))


@lru_cache(maxsize=4096)  # many entries have the same times
def _wall_times(*texts: str) -> WallTimes:
    found = sets(*texts)
    check_date(found[2], found[3], texts[2], texts[3])
    return WallTimes(*found)
