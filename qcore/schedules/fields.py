"""The fields of a crontab: from what a user writes to sets of numbers.

In:  a field as Celery takes it: `*/5`, `mon-fri`, `1,15-20/2`, a number, numbers.  Out: the numbers it means.
A range may wrap (`fri-mon`, `22-4`). Names of months and weekdays may be written out or cut to three letters
or more. Sunday is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from qcore.errors import BadSchedule, did_you_mean

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
#: days of each month, 0 for none; February as in a leap year
LONGEST_MONTHS = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class ParseException(BadSchedule):
    """A field of a crontab is not valid."""


class Field(NamedTuple):
    """One of the five fields, with the name that messages use."""

    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()  # the name of `least`, and so on
    hint: str = ""


MINUTE, HOUR = Field("minute", 0, 59), Field("hour", 0, 23)
DAY, MONTH = Field("day of month", 1, 31), Field("month", 1, 12, MONTHS)
WEEKDAY = Field("day of week", 0, 6, WEEKDAYS, "Sunday is 0")

#: the names that Celery gives the fields, in the order of a line of a crontab file
FIELDS = {
    "minute": MINUTE,
    "hour": HOUR,
    "day_of_month": DAY,
    "month_of_year": MONTH,
    "day_of_week": WEEKDAY,
}


@lru_cache(maxsize=4096)  # a schedule may have thousands of entries, whose fields are few
def numbers(field: Field, text: str) -> frozenset[int]:
    """The numbers that the text of a field means. Raises ParseException with the position in it."""
    found: set[int] = set()
    at = 0
    for part in text.split(","):
        found.update(_part(field, part, at))
        at += len(part) + 1
    return frozenset(found)


@lru_cache(maxsize=4096)
def sets(*texts: str) -> tuple[frozenset[int], ...]:
    """The numbers of the five fields, in the order of FIELDS. Raises ParseException."""
    return tuple(map(numbers, FIELDS.values(), texts))


def expand(field: Field, value: Any) -> set[int]:
    """The numbers that a field means: text, a number, or numbers. Raises ParseException and TypeError."""
    if isinstance(value, str):
        return set(numbers(field, value))
    if isinstance(value, int):
        found = {int(value)}
    elif isinstance(value, Iterable):
        found = set(value)
    else:
        kind = type(value).__name__
        raise TypeError(f"the {field.name} is {kind} {value!r}; write a number, a text or numbers")
    if not found:
        raise ParseException(f"the {field.name} has no value; write at least one of {_range(field)}")
    for number in found:
        if not isinstance(number, int):
            raise TypeError(f"the {field.name} has the value {number!r}; all values must be whole numbers")
        _checked(field, int(number), str(number), 0)
    return found


def meaning(field: Field, value: Any) -> frozenset[int]:
    """What expand() returns. Equal texts and numbers share one set: a schedule may have thousands."""
    return _shared(field, value) if type(value) in (str, int) else frozenset(expand(field, value))


@lru_cache(maxsize=4096)
def _shared(field: Field, value: str | int) -> frozenset[int]:
    return frozenset(expand(field, value))


def check_date(days: Set[int], months: Set[int], day_text: object, month_text: object) -> None:
    """Raise ParseException if none of these days is in any of these months."""
    if 1 not in days and min(days) > max(LONGEST_MONTHS[month] for month in months):
        raise ParseException(
            f"the day of month '{day_text}' never occurs in the month '{month_text}'; "
            f"these months have at most {max(LONGEST_MONTHS[month] for month in months)} days"
        )


def _part(field: Field, raw: str, at: int) -> Iterator[int]:
    """One part of a list: `*`, a number or a range, each of the last two perhaps with a step."""
    part = raw.strip()
    at += len(raw) - len(raw.lstrip())
    if not part:
        raise ParseException(f"the {field.name} has an empty part; write a value between the commas", at)
    base, slash, step_text = part.partition("/")
    span = _span(field, base.strip(), at)
    if not slash:
        return iter(span)
    step, step_at = step_text.strip(), at + len(base) + 1
    if not (step.isascii() and step.isdigit() and int(step)):
        found = f"the step '{step}'" if step else "an empty step"
        raise ParseException(
            f"the {field.name} '{part}' has {found}; write a number above 0 behind the slash", step_at
        )
    if base.strip() != "*" and "-" not in base:
        raise ParseException(
            f"the {field.name} '{part}' has a step without a range; "
            f"write {base.strip()}-{field.most}/{step} or */{step}",
            at,
        )
    return iter(span[:: int(step)])


def _span(field: Field, text: str, at: int) -> list[int]:
    """`*`, a number, or a range, which may wrap."""
    if text == "*":
        return list(range(field.least, field.most + 1))
    if text.startswith("-"):
        raise ParseException(f"the {field.name} '{text}' is negative; write one of {_range(field)}", at)
    first_text, dash, last_text = text.partition("-")
    first = _number(field, first_text.strip(), at)
    if not dash:
        return [first]
    last = _number(field, last_text.strip(), at + len(first_text) + 1)
    if last < first:
        return [*range(first, field.most + 1), *range(field.least, last + 1)]
    return list(range(first, last + 1))


def _number(field: Field, text: str, at: int) -> int:
    if text.isascii() and text.isdigit():
        return _checked(field, int(text), text, at)
    word = text.lower()
    for number, name in enumerate(field.names, field.least):
        if len(word) >= 3 and name.startswith(word):
            return number
    if not text:
        raise ParseException(f"the {field.name} lacks a value; write one of {_range(field)}", at)
    known = [name[:3] for name in field.names] + list(field.names)
    also = f" or a name such as {field.names[1][:3]}" if field.names else ""
    hint = did_you_mean(word, known) or f"; write one of {_range(field)}{also}"
    raise ParseException(f"the {field.name} '{text}' is no value of this field{hint}", at)


def _checked(field: Field, number: int, text: str, at: int) -> int:
    if not field.least <= number <= field.most:
        hint = f"; {field.hint}" if field.hint else ""
        raise ParseException(f"the {field.name} '{text}' is not in {_range(field)}{hint}", at)
    return number


def _range(field: Field) -> str:
    return f"{field.least}-{field.most}"


class crontab_parser:
    """Celery's parser of one field: `max_` values, the first of which is `min_`."""

    ParseException: ClassVar[type[BadSchedule]] = ParseException

    def __init__(self, max_: int = 60, min_: int = 0) -> None:
        self.max_, self.min_ = max_, min_
        known = {(field.most - field.least + 1, field.least): field for field in FIELDS.values()}
        self._field = known.get((max_, min_)) or Field("value", min_, min_ + max_ - 1)

    def parse(self, spec: str) -> set[int]:
        """The numbers that the text means. Raises ParseException."""
        return set(numbers(self._field, spec))
