"""Celery's schedule classes: `schedule`, `crontab`, `solar`, and the base of a project's own.

In:  what a project declares in `beat_schedule`, and when an entry ran last.  Out: whether it is due, and when
to look again. Source: the public behaviour of Celery 5.7; tests run the same lines on both. What differs is
in docs/celery.md.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self
from zoneinfo import ZoneInfo

from qcore.base import provided
from qcore.errors import BadSchedule
from qcore.schedules import sun
from qcore.schedules.cron import CronTimes, WallTimes
from qcore.schedules.fields import DAY, FIELDS, HOUR, MINUTE, MONTH, WEEKDAY, check_date, meaning
from qcore.schedules.intervals import end_of, epoch_us, moment_of

_ZERO = timedelta(0)


class schedstate(NamedTuple):
    """What is_due() returns; `next`: look again after so many seconds."""

    is_due: bool
    next: float


class ffwd:
    """The fields of a time that are replaced in the one that it is added to; then the next such weekday (0 is
    Monday), and so many weeks later. A day beyond the end of the month is its last one."""

    def __init__(
        self,
        year: int | None = None,
        month: int | None = None,
        weeks: int = 0,
        weekday: int | None = None,
        day: int | None = None,
        hour: int | None = None,
        minute: int | None = None,
        second: int | None = None,
        microsecond: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.year, self.month, self.weeks, self.weekday, self.day = year, month, weeks, weekday, day
        self.hour, self.minute, self.second, self.microsecond = hour, minute, second, microsecond
        self.days, self._fold = weeks * 7, kwargs.get("fold")

    def __radd__(self, other: Any) -> Any:
        if not isinstance(other, date):
            return NotImplemented
        year, month = self.year or other.year, self.month or other.month
        day = min(monthrange(year, month)[1], self.day or other.day)
        fold = {} if self._fold is None else {"fold": self._fold}
        found = other.replace(**{**self._fields(), "year": year, "month": month, "day": day, **fold})
        ahead = 0 if self.weekday is None else (self.weekday - found.weekday()) % 7
        days = ahead + self.days
        return found + timedelta(days=days) if days else found  # a sum forgets which of two equal hours it is

    def _fields(self) -> dict[str, int]:
        names = ("year", "month", "day", "hour", "minute", "second", "microsecond")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def __repr__(self) -> str:
        fields = {**self._fields(), "weeks": self.weeks, "weekday": self.weekday}
        return (
            f"ffwd({', '.join(f'{name}={value!r}' for name, value in fields.items() if value is not None)})"
        )


def cronfield(s: Any) -> Any:
    """A field of a crontab; None is `*`."""
    return "*" if s is None else s


class BaseSchedule:
    """What all schedules have in common. A project's own has is_due() and remaining_estimate()."""

    def __init__(self, nowfun: Callable[[], datetime] | None = None, app: Any = None) -> None:
        self.nowfun, self._app = nowfun, app

    def now(self) -> datetime:
        """The time by `nowfun`, or by the app."""
        if self.nowfun:
            return self.nowfun()
        clock = getattr(self.app, "now", None)
        found: datetime = clock() if clock else datetime.now(self.tz)
        return found

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """How long until it is due, if it ran last then; negative since when it has been."""
        raise NotImplementedError(f"{type(self).__name__} has no remaining_estimate()")

    def is_due(self, last_run_at: datetime) -> Any:
        """(whether it is due, after how many seconds to look again), if it ran last then."""
        raise NotImplementedError(f"{type(self).__name__} has no is_due()")

    def maybe_make_aware(self, dt: datetime, naive_as_utc: bool = True) -> datetime:
        """An aware time as it is; a naive one, of UTC or of this time zone, in this time zone."""
        if dt.utcoffset() is not None:
            return dt
        return dt.replace(tzinfo=UTC).astimezone(self.tz) if naive_as_utc else dt.replace(tzinfo=self.tz)

    @property
    def app(self) -> Any:
        """The app, or the current one."""
        return self._app or provided["current_app"]()

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    @cached_property
    def tz(self) -> tzinfo:
        """The time zone of the app."""
        found = getattr(self.app, "timezone", None) or self.app.conf.timezone
        if isinstance(found, tzinfo):
            return found
        return ZoneInfo(found or "UTC")

    @cached_property
    def utc_enabled(self) -> bool:
        return bool(self.app.conf.enable_utc)

    def to_local(self, dt: datetime) -> datetime:
        """A time in the time zone of the host where the app does not use UTC, else as it is."""
        return dt if self.utc_enabled else dt.astimezone()

    def _remaining_at_most_now(self) -> float:
        """Seconds until it is due next, if it runs now."""
        return max(self.remaining_estimate(self.now()), _ZERO).total_seconds()

    def _until(self, end: datetime) -> timedelta:
        return end.astimezone(UTC) - self.maybe_make_aware(self.now()).astimezone(UTC)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BaseSchedule):
            return other.nowfun == self.nowfun
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.nowfun)


class schedule(BaseSchedule):
    """Every so many seconds; `relative`: at full seconds, minutes, hours or days (intervals.py)."""

    relative: bool = False

    def __init__(
        self,
        run_every: Any = None,
        relative: bool = False,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
    ) -> None:
        self.run_every = timedelta(seconds=run_every) if isinstance(run_every, int | float) else run_every
        self.relative = relative
        super().__init__(nowfun=nowfun, app=app)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        start = self.maybe_make_aware(last_run_at)
        return self._until(end_of(start, self.run_every, self.relative))

    def is_due(self, last_run_at: datetime) -> Any:
        last_run_at = self.maybe_make_aware(last_run_at)
        left = self.remaining_estimate(last_run_at).total_seconds()
        if left > 0:
            return schedstate(False, left)
        if self.relative:
            # The next full hour, for instance, may be nearer than the whole interval.
            now = self.maybe_make_aware(self.now()).astimezone(last_run_at.tzinfo)
            left = self.remaining_estimate(now).total_seconds()
        return schedstate(True, left if left > 0 else self.seconds)

    @property
    def seconds(self) -> float:
        return max(float(self.run_every.total_seconds()), 0)

    @property
    def human_seconds(self) -> str:
        """The interval in its largest unit, as Celery writes it: `1.50 minutes`."""
        secs = round(self.seconds, 2)
        for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
            if secs >= size:
                return f"{secs / size:.2f} {unit}{'s' if secs != size else ''}"
        return "now"

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, schedule):
            return bool(self.run_every == other.run_every)
        return bool(self.run_every == other)

    def __hash__(self) -> int:
        return hash(self.run_every)

    def __reduce__(self) -> Any:
        return type(self), (self.run_every, self.relative, self.nowfun)


class crontab(BaseSchedule):
    """At times of the clock and the calendar. Each field is a number, a text such as `*/5`, `mon-fri` or
    `1,15-20/2`, or numbers. A day must be in day_of_week, day_of_month and month_of_year."""

    def __init__(
        self,
        minute: Any = "*",
        hour: Any = "*",
        day_of_week: Any = "*",
        day_of_month: Any = "*",
        month_of_year: Any = "*",
        **kwargs: Any,
    ) -> None:
        self._orig_minute, self._orig_hour = cronfield(minute), cronfield(hour)
        self._orig_day_of_week = cronfield(day_of_week)
        self._orig_day_of_month = cronfield(day_of_month)
        self._orig_month_of_year = cronfield(month_of_year)
        self._orig_kwargs = kwargs
        self._minutes, self._hours = meaning(MINUTE, minute), meaning(HOUR, hour)
        self._weekdays = meaning(WEEKDAY, day_of_week)
        self._days, self._months = meaning(DAY, day_of_month), meaning(MONTH, month_of_year)
        check_date(self._days, self._months, day_of_month, month_of_year)
        super().__init__(**kwargs)

    @classmethod
    def from_string(cls, crontab: str) -> Self:
        """The crontab of a line of five fields: minute, hour, day of month, month, day of week."""
        fields = crontab.split()
        if len(fields) != len(FIELDS):
            raise BadSchedule(
                f"'{crontab}' has {len(fields)} fields; a crontab has five: minute, hour, day of month, "
                "month, day of week"
            )
        minute, hour, day_of_month, month_of_year, day_of_week = fields
        return cls(minute, hour, day_of_week, day_of_month, month_of_year)

    # Sets of its own, as in Celery, where a project asks for them.
    minute = cached_property(lambda self: set(self._minutes))
    hour = cached_property(lambda self: set(self._hours))
    day_of_week = cached_property(lambda self: set(self._weekdays))
    day_of_month = cached_property(lambda self: set(self._days))
    month_of_year = cached_property(lambda self: set(self._months))

    def remaining_delta(
        self, last_run_at: datetime, tz: Any = None, ffwd: Callable[..., Any] = ffwd
    ) -> tuple[datetime, Any, datetime]:
        """(last_run_at, what leads from it to the next run, now), both times in the time zone."""
        zone = ZoneInfo(tz) if isinstance(tz, str) else tz or self.tz
        last = self.maybe_make_aware(last_run_at).astimezone(zone)
        at = self._next(last, zone)
        fields = {
            "year": at.year,
            "month": at.month,
            "day": at.day,
            "hour": at.hour,
            "minute": at.minute,
            "second": at.second,
            "microsecond": 0,
        }
        if at.fold != last.fold:
            fields["fold"] = at.fold
        return last, ffwd(**fields), self.maybe_make_aware(self.now()).astimezone(zone)

    def remaining_estimate(self, last_run_at: datetime, ffwd: Callable[..., Any] = ffwd) -> timedelta:
        last, delta, now = self.remaining_delta(last_run_at, ffwd=ffwd)
        end: datetime = last + delta
        return end.astimezone(UTC) - now.astimezone(UTC)

    def is_due(self, last_run_at: datetime) -> Any:
        """As is_due() of `schedule`. A run that should have been longer ago than beat_cron_starting_deadline
        seconds is not due any more."""
        left = self.remaining_estimate(last_run_at).total_seconds()
        if left > 0:
            return schedstate(False, left)
        deadline_s = self.app.conf.beat_cron_starting_deadline
        due = True
        if deadline_s is not None and left < 0:
            # Due, if one of the runs that were missed is not older than the deadline.
            oldest = self.maybe_make_aware(self.now()).astimezone(UTC)
            oldest -= timedelta(seconds=deadline_s, microseconds=1)
            due = self.remaining_estimate(oldest) <= _ZERO
        return schedstate(due, self._remaining_at_most_now())

    def _next(self, last: datetime, zone: tzinfo) -> datetime:
        times = CronTimes(self._walls, zone)
        found = times.after(epoch_us(last) // 1_000_000)
        if found is None:
            raise BadSchedule(f"{self!r} never occurs after {last:%Y-%m-%d}")
        return moment_of(found * 1_000_000).astimezone(zone)

    @cached_property
    def _walls(self) -> WallTimes:
        return WallTimes(self.minute, self.hour, self.day_of_month, self.month_of_year, self.day_of_week)

    def _sets(self) -> tuple[frozenset[int], ...]:
        days = self.month_of_year, self.day_of_month, self.day_of_week
        return tuple(map(frozenset, (*days, self.hour, self.minute)))

    def __repr__(self) -> str:
        return (
            f"<crontab: {self._orig_minute} {self._orig_hour} {self._orig_day_of_month} "
            f"{self._orig_month_of_year} {self._orig_day_of_week} (m/h/dM/MY/d)>"
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, crontab):
            return self._sets() == other._sets() and super().__eq__(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._sets())

    def __reduce__(self) -> Any:
        days = self._orig_day_of_week, self._orig_day_of_month, self._orig_month_of_year
        return type(self), (self._orig_minute, self._orig_hour, *days), self._orig_kwargs

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        super().__init__(**state)
        self._orig_kwargs = dict(state)


class solar(BaseSchedule):
    """At an event of the sun, such as `sunset`, at a place: latitude and longitude in degrees. Needs the
    library ephem (extra `solar`)."""

    _all_events: ClassVar[set[str]] = set(sun.EVENTS)
    #: after so many days without the event the search ends, and goes on at the next look
    max_search_days = sun.SEARCH_DAYS

    def __init__(self, event: str, lat: float, lon: float, **kwargs: Any) -> None:
        self.ephem = sun.ephem()
        sun.check(event, lat, lon)
        self.event, self.lat, self.lon = event, lat, lon
        self.cal = sun.observer(event, lat, lon)
        self.method, self.use_center = sun.EVENTS[event].method, sun.EVENTS[event].center
        super().__init__(**kwargs)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        start = self.maybe_make_aware(last_run_at)
        at, _ = sun.next_event(self.cal, self.event, start, self.max_search_days)
        return self._until(at)

    def is_due(self, last_run_at: datetime) -> Any:
        left = self.remaining_estimate(last_run_at).total_seconds()
        if left > 0:
            return schedstate(False, left)
        return schedstate(True, self._remaining_at_most_now())

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, solar):
            return (self.event, self.lat, self.lon) == (other.event, other.lat, other.lon)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.event, self.lat, self.lon))

    def __reduce__(self) -> Any:
        return type(self), (self.event, self.lat, self.lon)


def maybe_schedule(s: Any, relative: bool = False, app: Any = None) -> Any:
    """A schedule from a number of seconds, a timedelta or a schedule, with that app; None stays None."""
    if isinstance(s, int | float):
        s = timedelta(seconds=s)
    if isinstance(s, timedelta):
        return schedule(s, relative, app=app)
    if s is not None:
        s.app = app
    return s
