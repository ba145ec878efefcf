"""Specs: schedules as plain data, as they are stored (wire/schedule.py).

In:  a schedule of a project's code, or a text of a command line.  Out: a spec:

    {"kind": "interval", "every_s": 30.0, "relative": False}
    {"kind": "crontab", "minute": "*/5", "hour": "*", "day_of_month": "*", "month_of_year": "*",
     "day_of_week": "mon-fri"}                  each field as the user wrote it
    {"kind": "solar", "event": "sunset", "lat": 52.5, "lon": 13.4}
    {"kind": "code", "text": "…"}               for people; only the project's code can compute it

After this: instants.py, words.py.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

from qcore.base.lazy_pattern import lazily
from qcore.base.times import span_s
from qcore.errors import BadSchedule, did_you_mean
from qcore.schedules.fields import FIELDS, Field, ParseException, check_date, numbers
from qcore.schedules.sun import EVENTS, check

__all__ = ["BadSchedule", "parse", "text_of", "to_spec"]

#: as in a crontab file
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
HOW = "write a crontab such as '*/5 * * * mon-fri', an interval such as 'every 30s', or 'sunset 52.5 13.4'"
_WORD = lazily(r"\S+")
_LENGTH = lazily(r"[0-9.]+\s*(ms|s|m|h|d)\b", re.I)
_LONG_UNITS = lazily(r"\s*\b(seconds?|secs?|minutes?|mins?|hours?|days?)\b", re.I)

#: what computes the instants; a class with its own one has instants that only it knows
_COMPUTING = ("is_due", "remaining_estimate", "remaining_delta", "now", "maybe_make_aware")
#: where the classes are that this file knows, with and without Celery
_MODULES = ("qcore.schedules.classes", "celery.schedules")


def to_spec(schedule: Any) -> dict[str, Any]:
    """The spec of a number of seconds, a timedelta or a schedule object. Raises BadSchedule."""
    if isinstance(schedule, int | float) and not isinstance(schedule, bool):
        return _interval(schedule)
    if isinstance(schedule, timedelta):
        return _interval(schedule.total_seconds())
    if isinstance(schedule, type) or not callable(getattr(schedule, "is_due", None)):
        raise BadSchedule(
            f"{schedule!r} is no schedule; use a number of seconds, a timedelta or an object as of crontab()"
        )
    # A clock of its own may show another time zone, or no real time at all.
    base = "" if getattr(schedule, "nowfun", None) else _known_class(type(schedule))
    if base == "schedule" and isinstance(schedule.run_every, timedelta):
        return _interval(schedule.run_every.total_seconds(), bool(schedule.relative))
    if base == "crontab":
        texts = {name: _text(field, name, schedule) for name, field in FIELDS.items()}
        return {"kind": "crontab", **texts}
    if base == "solar":
        return {
            "kind": "solar",
            "event": schedule.event,
            "lat": float(schedule.lat),
            "lon": float(schedule.lon),
        }
    return {"kind": "code", "text": " ".join(repr(schedule).split())}


def parse(text: str) -> dict[str, Any]:
    """The spec of a text: five fields of a crontab, `@hourly` and the like, `every 30s` or `30s`,
    `sunset 52.5 13.4`. Raises BadSchedule with the position of the fault in the text."""
    words = [(found.group(), found.start()) for found in _WORD.finditer(text)]
    if not words:
        raise BadSchedule(f"the schedule is empty; {HOW}")
    (first, at), rest = words[0], words[1:]
    if first.startswith("@"):
        return _alias(first, at, rest)
    if first.lower() == "every":
        start = rest[0][1] if rest else len(text.rstrip())
        return _interval_text(text[start:].rstrip(), start)
    if (_LENGTH.match(text, at) and len(words) < len(FIELDS)) or (first[0].isdigit() and not rest):
        return _interval_text(text[at:].rstrip(), at)
    if len(words) != len(FIELDS) and first[0].isalpha():
        return _solar(words, len(text.rstrip()))
    return _crontab(text, words)


def text_of(spec: dict[str, Any]) -> str:
    """The text that parse() makes this spec of, for people to change; '' for a schedule that is code, and for
    a spec that is not valid."""
    kind = spec.get("kind")
    if kind == "crontab":
        return " ".join("".join(str(spec.get(name, "*")).split()) for name in FIELDS)
    try:
        if kind == "interval":
            return f"every {Decimal(repr(float(spec['every_s']))).normalize():f}s"
        if kind == "solar":
            return f"{spec['event']} {float(spec['lat'])} {float(spec['lon'])}"
    except (KeyError, TypeError, ValueError):
        return ""
    return ""


def _interval(every_s: float, relative: bool = False, at: int = 0) -> dict[str, Any]:
    try:
        shortest = timedelta(seconds=every_s) < timedelta(microseconds=1)
    except (OverflowError, ValueError) as exc:
        raise BadSchedule(f"an interval of {every_s} s is longer than what can be computed", at) from exc
    if shortest:
        raise BadSchedule(f"an interval is longer than 0 s, and this one is {every_s:g} s", at)
    return {"kind": "interval", "every_s": float(every_s), "relative": relative}


def _known_class(kind: type) -> str:
    """`schedule`, `crontab` or `solar`, if objects of this class are computed as that is; else ''."""
    for base in kind.__mro__:
        if base.__module__ in _MODULES and base.__name__ in ("schedule", "crontab", "solar"):
            own = any(getattr(kind, name, None) is not getattr(base, name, None) for name in _COMPUTING)
            return "" if own else base.__name__
    return ""


def _text(field: Field, name: str, schedule: Any) -> str:
    """A field as the user wrote it; numbers as a list."""
    written = getattr(schedule, f"_orig_{name}")
    if type(written) in (str, int) and name not in vars(schedule) and hasattr(type(schedule), name):
        return str(written)  # of a crontab of qcore whose sets nobody has asked for, and may have changed
    meant = set(getattr(schedule, name))
    if isinstance(written, str):
        try:
            if numbers(field, written) == meant:
                return written
        except ParseException:
            pass  # a text that Celery understands and that is an error here; it has made the right numbers
    return ",".join(map(str, sorted(meant)))


def _alias(word: str, at: int, rest: list[tuple[str, int]]) -> dict[str, Any]:
    if word.lower() not in ALIASES:
        hint = did_you_mean(word.lower(), ALIASES) or f"; known: {', '.join(ALIASES)}"
        raise BadSchedule(f"there is no schedule '{word}'{hint}", at)
    if rest:
        raise BadSchedule(f"behind {word} stands '{rest[0][0]}'; {word} stands alone", rest[0][1])
    return {"kind": "crontab", **dict(zip(FIELDS, ALIASES[word.lower()].split(), strict=True))}


def _interval_text(text: str, at: int) -> dict[str, Any]:
    if not text:
        raise BadSchedule("behind 'every' stands nothing; write the length, such as every 30s", at)
    short = _LONG_UNITS.sub(lambda found: found[1][0], text).lower().replace(" ", "")
    try:
        if short.replace(".", "").isdigit():
            raise ValueError("it has no unit")
        every_s = span_s(f"1{short}" if short in ("d", "h", "m", "s") else short)
    except ValueError:
        unit = f"{text}s, " if text.isdigit() else "30s, "
        raise BadSchedule(f"'{text}' is no length of time; write {unit}5m, 2h, 1h30m or 1d", at) from None
    return _interval(every_s, at=at)


def _solar(words: list[tuple[str, int]], end: int) -> dict[str, Any]:
    (event, at), places = words[0], words[1:]
    if event not in EVENTS:
        hint = did_you_mean(event.lower(), [*EVENTS, "every"]) or f"; {HOW}"
        raise BadSchedule(f"'{event}' is no schedule{hint}", at)
    if len(places) != 2:
        raise BadSchedule(f"{event} needs a latitude and a longitude; write {event} 52.5 13.4", end)
    found = []
    for name, (word, where) in zip(("latitude", "longitude"), places, strict=True):
        try:
            found.append(float(word))
        except ValueError:
            raise BadSchedule(f"the {name} '{word}' is no number of degrees, such as 52.5", where) from None
        try:
            check(event, *(found if name == "longitude" else (found[0], 0)))
        except BadSchedule as exc:
            raise BadSchedule(exc.why, where) from None
    return {"kind": "solar", "event": event, "lat": found[0], "lon": found[1]}


def _crontab(text: str, words: list[tuple[str, int]]) -> dict[str, Any]:
    if len(words) != len(FIELDS):
        given = f"{len(words)} field{'s' * (len(words) != 1)}"
        at = words[len(FIELDS)][1] if len(words) > len(FIELDS) else len(text.rstrip())
        raise BadSchedule(
            f"'{text.strip()}' has {given}; a crontab has five: {', '.join(f.name for f in FIELDS.values())}",
            at,
        )
    sets, spec = {}, {"kind": "crontab"}
    for (name, field), (word, at) in zip(FIELDS.items(), words, strict=True):
        try:
            sets[name] = numbers(field, word)
        except ParseException as exc:
            raise BadSchedule(exc.why, at + exc.position) from None
        spec[name] = word
    try:
        check_date(sets["day_of_month"], sets["month_of_year"], spec["day_of_month"], spec["month_of_year"])
    except ParseException as exc:
        raise BadSchedule(exc.why, words[2][1]) from None
    return spec
