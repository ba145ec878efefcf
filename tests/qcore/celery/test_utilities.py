"""Small functions of `celery.utils`: the same calls on Celery's and on ours."""

from __future__ import annotations

import importlib
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from qcore.celery import texts, utilities
from qcore.schedules import classes

NAIVE, TOKYO = datetime(2026, 11, 28, 12), ZoneInfo("Asia/Tokyo")
AWARE, THERE = NAIVE.replace(tzinfo=UTC), NAIVE.replace(tzinfo=TOKYO)

BEFORE_SUMMER = datetime(2026, 3, 29, 1, tzinfo=ZoneInfo("Europe/Berlin"))

AWARE_S, UNITS = datetime(2026, 11, 28, 12, 13, 14, 15, UTC), ("days", "hours", "minutes", "seconds")

#: module, function, several argument lists
CALLS: list[tuple[str, str, list[tuple[Any, ...]]]] = [
    ("nodenames", "nodename", [("w", "h")]),
    ("nodenames", "nodesplit", [("w@h",), ("h",), ("a@b@c",)]),
    ("nodenames", "default_nodename", [("w@h",), ("h",), ("",)]),
    ("nodenames", "anon_nodename", [("h",), ()]),
    ("nodenames", "node_format", [("%n-%h-%d-%p-%%", "w@a.b.c")]),
    ("nodenames", "host_format", [("%h.%n.%d", "a.b.c"), ("%n", "a.b", "me"), ("%i%I", "a")]),
    ("nodenames", "worker_direct", [("w@h",)]),
    ("functional", "first", [(bool, [0, None, 3, 4]), (bool, [])]),
    ("functional", "padlist", [(["a", "b"], 4, "x"), (["a", "b"], 1), ([], 2)]),
    ("functional", "maybe", [(int, "3"), (int, None)]),
    ("functional", "fun_accepts_kwargs", [(lambda **k: 0,), (lambda a: 0,)]),
    ("functional", "noop", [(1, 2)]),
    ("imports", "qualname", [(dict,), (utilities.noop,), (utilities.timezone.get_timezone,), (3,)]),
    ("imports", "instantiate", [("collections.OrderedDict", [(1, 2)]), (dict,)]),
    ("iso8601", "parse_iso8601", [("2026-11-28T12:00:00+00:00",)]),
    ("serialization", "strtobool", [("yes",), ("OFF",), ("0",), (True,), ("perhaps",), (None,)]),
    ("functional", "regen", [([1],), ((1, 2),)]),
    ("imports", "find_module", [("json.decoder",), ("json.no",), ("json.decoder.no",), ("no.such",)]),
    ("imports", "module_file", [(json,)]),
    ("text", "abbrtask", [("proj.tasks.add", 10), ("proj.add", 20), (None, 5), ("a.long.module.add", 9)]),
    ("text", "dedent_initial", [("    a",), ("  a",), ("  a", 2)]),
    ("text", "ensure_newlines", [("a",), ("a\n",), ("a\n\n\n",), ("a", 3)]),
    ("text", "ensure_sep", [("-", "a"), ("-", "a-", 1)]),
    ("text", "fill_paragraphs", [("one two three\nfour five", 8)]),
    ("text", "pretty", [({"a": 1, "b": [1] * 40},), ((1, 2),), ("x",), ([1, 2], 3)]),
    (
        "text",
        "simple_format",
        [("%a %%", {"a": "x"}), ("%a", {"a": lambda: "y"}), ("%b", {}), ("", {})],
    ),
    ("time", "adjust_timestamp", [(1000.0, 2.0, lambda: 1.0), (1000.0, 0.0)]),
    ("time", "delta_resolution", [(AWARE_S, timedelta(**{unit: 2})) for unit in UNITS]),
    ("time", "utcoffset", [()]),
    ("text", "str_to_list", [("a,b",), (["a"],)]),
    ("text", "truncate", [("one two three", 9), ("one", 9), ("x" * 9, 9), ("abc", 0)]),
    ("text", "abbr", [("abcdefghij", 6), ("abc", 6), (None, 6), ("abcdefghij", 6, "")]),
    ("text", "pluralize", [(1, "word"), (2, "word"), (0, "word", "es")]),
    ("text", "join", [(["a", "", "b"],), (["a", "b"], "-")]),
    ("text", "indent", [("a\nb", 2)]),
    ("text", "dedent", [("    a\n  b\n      c",)]),
    ("time", "maybe_timedelta", [(3,), (2.5,), (timedelta(1),), (None,)]),
    ("time", "maybe_iso8601", [("2026-11-28T12:00:00+00:00",), (NAIVE,), (None,)]),
    ("time", "is_naive", [(NAIVE,), (AWARE,)]),
    ("time", "localize", [(NAIVE, TOKYO), (AWARE, TOKYO), (THERE, UTC)]),
    ("time", "to_utc", [(NAIVE,)]),
    ("time", "make_aware", [(NAIVE, TOKYO)]),
    ("time", "maybe_make_aware", [(NAIVE,), (NAIVE, TOKYO), (NAIVE, TOKYO, False), (AWARE, TOKYO), (THERE,)]),
    ("time", "remaining", [(AWARE, timedelta(hours=3), THERE), (THERE, timedelta(90), AWARE, True)]),
    ("time", "remaining", [(AWARE, timedelta(seconds=5400), AWARE + timedelta(1), True)]),
    ("time", "add_seconds_to_datetime", [(NAIVE, 90), (THERE, 90.5), (BEFORE_SUMMER, 7200)]),
    ("time", "subtract_datetimes", [(NAIVE, AWARE), (THERE, AWARE), (AWARE, NAIVE)]),
    ("time", "weekday", [("sun",), ("Monday",), ("nope",)]),
    ("time", "rate", [("100/m",), ("5/s",), ("20/h",), ("3",), (7,), (None,), ("0.5/s",)]),
    ("time", "humanize_seconds", [(s,) for s in (0, 0.3, 1, 1.5, 59, 60, 61, 3600, 7300, 86400, 190000)]),
    ("time", "humanize_seconds", [(5, "in", " "), (0.25, "", "", "now", True), (0, "in ")]),
    ("time", "get_exponential_backoff_interval", [(1, 3, 600), (2, 20, 600), (0, 3, 600)]),
]


def outcome(function: Any, args: tuple[Any, ...]) -> Any:
    try:
        return function(*args)
    except Exception as exc:
        return type(exc).__name__


@pytest.mark.parametrize(("module", "name", "calls"), CALLS, ids=[f"{m}.{n}" for m, n, _ in CALLS])
def test_the_same_calls_give_the_same(module: str, name: str, calls: list[tuple[Any, ...]]) -> None:
    theirs = getattr(importlib.import_module(f"celery.utils.{module}"), name)
    ours = getattr(utilities if hasattr(utilities, name) else texts, name)
    for args in calls:
        one, other = outcome(ours, args), outcome(theirs, args)
        assert one == other and str(one) == str(other), args


def test_iterators() -> None:
    from celery.utils import functional

    assert texts.regen(iter([1, 2])) == functional.regen(iter([1, 2])) == [1, 2]
    for kit in (utilities, functional):
        assert [list(part) for part in kit.chunks(iter(range(7)), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
        assert list(kit.uniq([1, 2, 1, 3])) == [1, 2, 3]
        assert kit.mattrgetter("real", "nope")(5) == {"real": 5, "nope": None}
        answers = itertools.count()
        assert kit.firstmethod("get")([{}, {"a": 1}], "a") == 1 and next(answers) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"hour": 3, "minute": 0},
        {"day": 31, "month": 2, "second": 0, "microsecond": 0},
        {"weekday": 0},
        {"weekday": 5, "weeks": 2},
        {"year": 2027, "hour": 0},
        {},
    ],
)
def test_a_time_with_other_fields(fields: dict[str, int]) -> None:
    theirs, ours = importlib.import_module("celery.utils.time").ffwd(**fields), classes.ffwd(**fields)

    for time in (NAIVE, AWARE_S, datetime(2028, 2, 29)):
        assert time + ours == time + theirs
    assert repr(ours) == repr(theirs)
    assert ours.days == theirs.days
    with pytest.raises(TypeError):
        3 + ours
    assert classes.ffwd(2027, 5).month == 5


def test_the_zone_of_this_host() -> None:
    theirs, ours = importlib.import_module("celery.utils.time").LocalTimezone(), utilities.LocalTimezone()

    for time in (NAIVE, datetime(2026, 7, 1, 4), datetime(2026, 3, 29, 2, 30)):
        one, other = (time.replace(tzinfo=zone) for zone in (ours, theirs))
        assert (one.utcoffset(), one.dst(), one.tzname()) == (other.utcoffset(), other.dst(), other.tzname())
        assert time.replace(tzinfo=UTC).astimezone(ours).isoformat() == (
            time.replace(tzinfo=UTC).astimezone(theirs).isoformat()
        )
    assert repr(ours) == repr(theirs)


def test_zones() -> None:
    from celery.utils.time import timezone

    assert utilities.timezone.get_timezone("Asia/Tokyo") == timezone.get_timezone("Asia/Tokyo") == TOKYO
    assert NAIVE.replace(tzinfo=utilities.timezone.utc) == NAIVE.replace(tzinfo=timezone.utc)
