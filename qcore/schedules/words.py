"""A schedule in words: `every 5 minutes on weekdays`.

In:  a spec (specs.py).  Out: a phrase for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from functools import lru_cache
from typing import Any

from qcore.errors import BadSchedule
from qcore.schedules.fields import FIELDS, MONTHS, WEEKDAYS, sets
from qcore.schedules.sun import EVENTS

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
#: so many times of a day are listed, more are described
_MOST_TIMES = 6


def words(spec: dict[str, Any], timezone: str = "") -> str:
    """The phrase; timezone: the name of the time zone, if it is to be said. Raises BadSchedule."""
    try:
        return _words(tuple(spec.items()), timezone)
    except TypeError:  # a value that no spec has
        raise BadSchedule(f"the spec {spec!r:.200} has an invalid field") from None


@lru_cache(4096)
def _words(fields: tuple[tuple[str, Any], ...], timezone: str) -> str:
    spec = dict(fields)
    kind = spec.get("kind")
    if kind == "interval":
        return _interval(spec["every_s"], bool(spec.get("relative")))
    if kind == "crontab":
        found = sets(*[spec.get(name, "*") for name in FIELDS])
        # Without fixed hours and days it is the same everywhere, but for zones with half hours.
        everywhere = [len(numbers) for numbers in found[1:]] == [24, 31, 12, 7]
        return _crontab(*found) + (f" ({timezone})" if timezone and not everywhere else "")
    if kind == "solar":
        event = EVENTS[spec["event"]].words if spec["event"] in EVENTS else spec["event"]
        return f"at {event} at latitude {spec['lat']:g}, longitude {spec['lon']:g}"
    return f"computed by the project: {spec.get('text', '')}"


def _interval(every_s: float, relative: bool) -> str:
    for unit, size in _UNITS:
        if every_s >= size and (every_s % size == 0 or unit == "second"):
            break
    phrase = _every(every_s / size, unit)
    if not relative or every_s < 60:
        return phrase
    if every_s >= 86400:
        return f"{phrase}, at midnight"
    return f"{phrase}, at full {'hours' if every_s >= 3600 else 'minutes'}"


def _every(number: float, unit: str) -> str:
    return f"every {unit}" if number == 1 else f"every {number:g} {unit}s"


def _crontab(
    minutes: Set[int],
    hours: Set[int],
    days: frozenset[int],
    months: frozenset[int],
    weekdays: frozenset[int],
) -> str:
    times, is_list = _times(sorted(minutes), sorted(hours))
    when = _dates(days, months, weekdays)
    if is_list and (not when or when.startswith("in ")):
        when = f"every day {when}".strip()
    return f"{times} {when}".strip()


def _times(minutes: list[int], hours: list[int]) -> tuple[str, bool]:
    """The times of a day; and whether they are a list of times, which a phrase about days must follow."""
    minute_step, hour_step = _step(minutes, 60), _step(hours, 24)
    if len(hours) == 24:
        if minute_step:
            return _every(minute_step, "minute") if minutes[1:] else "every hour", False
        return f"at {_minutes(minutes)} of every hour", False
    if len(minutes) * len(hours) <= _MOST_TIMES and not (hour_step and len(hours) > 2):
        return "at " + _listed(f"{h:02}:{m:02}" for h in hours for m in minutes), True
    if hour_step and len(minutes) == 1:
        at = f" at minute {minutes[0]}" if minutes[0] else ""
        return _every(hour_step, "hour") + at, False
    between = _between(hours, minutes)
    if minute_step and minutes[1:]:
        return f"{_every(minute_step, 'minute')} {between}", False
    if len(minutes) == 1 and between.startswith("from"):
        return f"every hour {between}", False
    return f"at {_minutes(minutes)} {between}", False


def _between(hours: list[int], minutes: list[int]) -> str:
    if _is_range(hours):
        return f"from {hours[0]:02}:{minutes[0]:02} to {hours[-1]:02}:{minutes[-1]:02}"
    return "of the hours " + _listed(map(str, hours))


def _minutes(minutes: list[int]) -> str:
    return ("minute " if len(minutes) == 1 else "minutes ") + _listed(map(str, minutes))


@lru_cache(256)  # thousands of entries differ in their times more than in their days
def _dates(some_days: frozenset[int], some_months: frozenset[int], some_weekdays: frozenset[int]) -> str:
    """The days, without those of every day."""
    days, months, weekdays = sorted(some_days), sorted(some_months), sorted(some_weekdays)
    all_days, all_months, all_weekdays = len(days) == 31, len(months) == 12, len(weekdays) == 7
    named = _listed(MONTHS[month - 1].title() for month in months)
    month = "each month" if all_months else named
    if all_days and all_weekdays:
        return "" if all_months else f"in {named}"
    on = "" if all_weekdays else _weekdays(weekdays)
    if all_days:
        return f"on {on}" if all_months else f"on {on} in {named}"
    if all_weekdays:
        return f"on {_ordinals(days)} of {month}"
    return f"on {on} that are {_ordinals(days)} of {'a month' if all_months else named}"


def _weekdays(weekdays: list[int]) -> str:
    if weekdays == [1, 2, 3, 4, 5]:
        return "weekdays"
    if weekdays == [0, 6]:
        return "weekends"
    # a week starts on Monday in most places, and a list reads better so
    return _listed(f"{WEEKDAYS[day].title()}s" for day in sorted(weekdays, key=lambda day: day or 7))


def _ordinals(days: list[int]) -> str:
    if days == [1]:
        return "the first"
    if _is_range(days) and len(days) > 2:
        return f"the {_ordinal(days[0])} to {_ordinal(days[-1])}"
    return "the " + _listed(map(_ordinal, days))


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number not in (11, 12, 13) else "th"
    return f"{number}{ending}"


def _is_range(values: Sequence[int]) -> bool:
    return len(values) > 1 and values[-1] - values[0] == len(values) - 1


def _step(values: list[int], size: int) -> int:
    """n, if these are all multiples of n and n divides the whole; else 0."""
    step = values[1] if len(values) > 1 else size
    return step if size % step == 0 and values == list(range(0, size, step)) else 0


def _listed(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
