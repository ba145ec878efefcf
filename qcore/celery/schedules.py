"""Celery's schedules as values: a project that declares periodic tasks starts.

Nothing here publishes them yet; a worker that starts says so.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any


class schedule:
    """Every so many seconds."""

    def __init__(
        self, run_every: Any = None, relative: bool = False, nowfun: Any = None, app: Any = None
    ) -> None:
        self.run_every = timedelta(seconds=run_every) if isinstance(run_every, int | float) else run_every
        self.relative, self.nowfun, self.app = relative, nowfun, app

    def _fields(self) -> tuple[Any, ...]:
        return (self.run_every,)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._fields() == self._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {' '.join(map(str, self._fields()))}{self._legend}>"

    _legend = ""


class crontab(schedule):
    """As in a crontab file: minute, hour, day of month, month of year, day of week."""

    _legend = " (m/h/dM/MY/d)"

    def __init__(
        self,
        minute: Any = "*",
        hour: Any = "*",
        day_of_week: Any = "*",
        day_of_month: Any = "*",
        month_of_year: Any = "*",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._orig_minute, self._orig_hour, self._orig_day_of_week = minute, hour, day_of_week
        self._orig_day_of_month, self._orig_month_of_year = day_of_month, month_of_year

    def _fields(self) -> tuple[Any, ...]:
        days = self._orig_day_of_month, self._orig_month_of_year, self._orig_day_of_week
        return tuple(map(str, (self._orig_minute, self._orig_hour, *days)))


class solar(schedule):
    """At an event of the sun, such as `sunset`, at a place: latitude and longitude in degrees."""

    def __init__(self, event: str, lat: float, lon: float, **options: Any) -> None:
        super().__init__(**options)
        self.event, self.lat, self.lon = event, lat, lon

    def _fields(self) -> tuple[Any, ...]:
        return (self.event, self.lat, self.lon)


class Scheduler:
    """What publishes a schedule, for packages that put something around it. Nothing here does."""

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        raise NotImplementedError("nothing here publishes the schedule; `celery beat` does")
