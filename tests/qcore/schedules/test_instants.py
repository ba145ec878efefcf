"""The instants of specs: intervals, crontabs, the sun; what they cost; what cannot be computed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from dateutil import tz as dateutil_tz

from qcore.errors import BadSchedule, ConfigError
from qcore.schedules import zones
from qcore.schedules.cron import Dates
from qcore.schedules.instants import Instants, instants
from qcore.schedules.intervals import relative_end
from qcore.schedules.specs import parse
from tests.qcore.schedules.expressions import START, crontab_text
from tests.qcore.schedules.test_instants_oracle import ODD

S = 1_000_000
BERLIN = ZoneInfo("Europe/Berlin")
YEAR = 365 * 86400 * S


def us(text: str, tz: Any = UTC) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=tz).timestamp()) * S


def shown(times: Instants, start: str, tz: Any, most: int = 3) -> list[str]:
    """The first instants after a local time, as the clock shows them."""
    found, at = [], times.after(us(start, tz))
    while at is not None and len(found) < most:
        found.append(datetime.fromtimestamp(at // S, tz).strftime("%m-%d %H:%M%z"))
        at = times.after(at)
    return found


# --- intervals


def test_an_interval_is_counted_from_the_last_instant() -> None:
    times = instants({"kind": "interval", "every_s": 1.5}, UTC)

    assert times.after(7) == 1_500_007
    assert times.pending(0, 6 * S, 2) == ([4_500_000, 6_000_000], 4)
    assert times.pending(0, 6 * S - 1, 99) == ([1_500_000, 3_000_000, 4_500_000], 3)
    assert times.pending(0, 6 * S, 0) == ([], 4)
    assert times.pending(5, 5, 9) == times.pending(9, 5, 9) == ([], 0)


@pytest.mark.parametrize(
    ("every_s", "start", "end"),
    [
        (30, "2026-03-28T12:00:10", "2026-03-28T12:00:40"),
        (60, "2026-03-28T12:00:10", "2026-03-28T12:01:00"),
        (3600, "2026-03-28T12:20:00", "2026-03-28T13:00:00"),
        (86_400, "2026-03-28T12:20:00", "2026-03-29T00:00:00"),
        (172_800, "2026-03-28T00:00:00", "2026-03-30T00:00:00"),  # of 23 hours, one of the days
    ],
)
def test_a_relative_interval_ends_on_the_clock(every_s: float, start: str, end: str) -> None:
    times = instants({"kind": "interval", "every_s": every_s, "relative": True}, BERLIN)

    assert times.after(us(start, BERLIN)) == us(end, BERLIN)


@pytest.mark.parametrize("every_s", [0.3, 1, 1.7, 59, 60, 100, 3599, 3600, 10_000, 86_400, 200_000])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"])
def test_relative_intervals_that_are_pending_are_those_that_follow_each_other(
    every_s: float, zone: str
) -> None:
    times = instants({"kind": "interval", "every_s": every_s, "relative": True}, ZoneInfo(zone))
    start = us("2026-04-04T12:34:56") + 789
    until = start + min(round(400 * every_s), 40 * 86_400) * S
    expected, at = [], times.after(start)
    while at is not None and at <= until:
        assert not expected or at > expected[-1]
        expected.append(at)
        at = times.after(at)

    assert times.pending(start, until, 9) == (expected[-9:], len(expected))


def test_a_relative_interval_below_a_second_goes_on() -> None:
    assert relative_end(S, 300_000, UTC) == S  # so it is always due in Celery

    assert instants({"kind": "interval", "every_s": 0.3, "relative": True}, UTC).after(S) == 1_300_000


# --- crontabs


@pytest.mark.parametrize(
    ("text", "zone", "start", "expected"),
    [
        # 02:00 to 03:00 does not exist
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:00+0200", "03-30 02:30+0200"]),
        ("*/20 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:00+0200", "03-30 02:00+0200"]),
        ("0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:00+0200", "03-30 02:00+0200"]),
        ("30 * * * *", "Europe/Berlin", "2026-03-29T01:00", ["03-29 01:30+0100", "03-29 03:30+0200"]),
        # 02:00 to 03:00 occurs twice
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        ("30 2,3 * * *", "Europe/Berlin", "2026-10-25T02:00", ["10-25 02:30+0200", "10-25 03:30+0100"]),
        ("30 * * * *", "Europe/Berlin", "2026-10-25T02:00", ["10-25 02:30+0200", "10-25 02:30+0100"]),
        # midnight does not exist
        ("0 0 * * *", "America/Santiago", "2026-09-05T12:00", ["09-06 01:00-0300", "09-07 00:00-0300"]),
        ("0 0 6 9 *", "America/Santiago", "2026-09-05T12:00", ["09-06 01:00-0300", "09-06 00:00-0300"]),
        # half an hour, and two
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["10-04 02:30+1100", "10-05 02:15+1100"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", ["04-05 01:45+1100", "04-06 01:45+1030"]),
        ("30 1,2 * * *", "Antarctica/Troll", "2026-03-28T12:00", ["03-29 03:00+0200", "03-30 01:30+0200"]),
    ],
)
def test_a_change_of_the_time_zone(text: str, zone: str, start: str, expected: list[str]) -> None:
    tz = ZoneInfo(zone)

    assert shown(instants(parse(text), tz), start, tz, len(expected)) == expected


def test_a_day_must_be_in_all_fields_of_days() -> None:
    times = instants(parse("0 0 13 * fri"), UTC)

    assert shown(times, "2026-01-01T00:00", UTC, 4) == [
        *("02-13 00:00+0000", "03-13 00:00+0000", "11-13 00:00+0000"),
        "08-13 00:00+0000",  # 2027
    ]


def test_rare_days_are_found() -> None:
    times = instants(parse("0 0 29 2 sat"), UTC)
    at, years = us("2020-03-01T00:00"), []
    for _ in range(4):
        at = times.after(at) or 0
        years.append(datetime.fromtimestamp(at // S, UTC).year)

    assert years == [2048, 2076, 2116, 2144]  # 2100 is no leap year


@pytest.mark.parametrize("tz", [UTC, BERLIN])
@pytest.mark.parametrize("text", ["0 0 * * *", "0 * * * *", "0 0 1 1 *"])
def test_the_end_of_the_calendar(text: str, tz: Any, counted: Counted) -> None:
    times = instants(parse(text), tz)
    assert times.after(us("2026-12-31T23:30", tz)) == us("2027-01-01T00:00", tz)

    assert times.after(us("9990-12-31T23:30", tz)) == us("9991-01-01T00:00", tz)
    for late in ("9999-12-28T18:00", "9999-12-31T12:00", "9999-12-31T23:59"):
        assert times.after(us(late)) is None
    assert times.pending(us("9999-12-29T00:00"), us("9999-12-31T23:00"), 5) == ([], 0)
    assert times.after(us("2026-12-31T23:30", tz)) == us("2027-01-01T00:00", tz)
    assert (times.after(us("0002-12-31T12:00")) or 0) < us("0003-01-02T00:00")

    assert counted.offsets < 9000  # the years in between are not looked at


def test_crontabs_in_utc_are_those_of_another_library() -> None:
    rng, compared = random.Random(11), 0
    while compared < 1500:
        text = crontab_text(rng)
        fields = parse(text)
        if fields["day_of_month"] != "*" and fields["day_of_week"] != "*":
            continue  # that library takes days that are in either
        times = instants(fields, UTC)
        start = rng.randint(START, START + 10**9)
        expected = CronSim(lists(text), datetime.fromtimestamp(start, UTC))

        at = times.after(start * S)

        for _ in range(3):
            assert at == round(next(expected).timestamp()) * S, (text, start)
            at = times.after(at)
        compared += 1


def lists(text: str) -> str:
    """The same with plain lists: names, ranges that wrap and steps are written in other ways elsewhere."""
    from qcore.schedules.fields import FIELDS, numbers

    parts = (
        part if part == "*" else ",".join(map(str, sorted(numbers(field, part))))
        for part, field in zip(text.split(), FIELDS.values(), strict=True)
    )
    return " ".join(parts)


@pytest.mark.parametrize("zone", ODD)
def test_the_instants_of_years_are_counted_as_they_follow_each_other(zone: str) -> None:
    rng = random.Random(zone)
    for _ in range(12):
        text = f"{rng.choice(('0', '*/30', '17,59'))} {rng.choice(('2', '*', '0,3', '*/8'))} "
        text += f"{rng.choice(('*', '1', '28-31', '*/10'))} * {rng.choice(('*', 'sun', 'mon-fri'))}"
        times = instants(parse(text), ZoneInfo(zone))
        start = us("2024-01-01T00:00") + rng.randint(0, YEAR)
        until = start + rng.randint(0, 2 * YEAR)
        expected, at = [], times.after(start)
        while at is not None and at <= until:
            expected.append(at)
            at = times.after(at)

        assert times.pending(start, until, 50) == (expected[-50:], len(expected)), text
        assert times.pending(start, until, 0) == ([], len(expected)), text


@pytest.mark.parametrize("tz", [timezone(timedelta(hours=2)), dateutil_tz.gettz("Europe/Berlin"), BERLIN])
def test_time_zones_of_any_library(tz: Any) -> None:
    times = instants(parse("30 2 * * *"), tz)

    found = times.after(us("2026-07-01T12:00"))

    assert found == us("2026-07-02T00:30")


def test_earlier_instants_are_found_after_later_ones() -> None:
    zone = zones.Zone(BERLIN)
    summer = us("2030-07-01T00:00") // S
    assert zone.period(summer).offset == 7200

    earlier = zone.period(us("2001-07-01T00:00") // S)

    assert (earlier.offset, earlier.before) == (7200, 3600)
    assert zone.period(summer).start == us("2030-03-31T01:00") // S
    assert [p.offset for p in zone.periods(us("2001-01-01T00:00") // S, us("2001-12-31T00:00") // S)] == [
        *(3600, 7200, 3600)
    ]


# --- the sun


def test_a_sunset_is_followed_by_that_of_the_next_day() -> None:
    times = instants({"kind": "solar", "event": "sunset", "lat": 52.5, "lon": 13.4}, UTC)

    newest, total = times.pending(us("2026-06-01T00:00"), us("2026-07-01T00:00"), 2)

    assert total == 30
    found = [datetime.fromtimestamp(at // S, BERLIN) for at in newest]
    assert [(at.day, at.hour, at.minute // 10) for at in found] == [(29, 21, 3), (30, 21, 3)]


def test_no_event_of_the_sun_is_found_twice() -> None:
    for event in ("sunrise", "solar_noon", "dusk_astronomical"):
        times = instants({"kind": "solar", "event": event, "lat": 40.7, "lon": -74.0}, UTC)
        at = times.after(us("2026-01-01T00:00"))
        for _ in range(400):
            following = times.after(at or 0)
            assert at is not None and following is not None
            assert 23 * 3600 * S < following - at < 25 * 3600 * S
            at = following


def test_an_event_that_does_not_happen_for_months_is_found_after_them() -> None:
    times = instants({"kind": "solar", "event": "sunrise", "lat": 78.2, "lon": 15.6}, UTC)  # Svalbard

    found = datetime.fromtimestamp((times.after(us("2026-11-28T00:00")) or 0) // S, UTC)

    assert (found.year, found.month) == (2027, 2)


def test_an_event_that_never_happens_has_no_instant() -> None:
    times = instants({"kind": "solar", "event": "dusk_astronomical", "lat": 90, "lon": 0}, UTC)

    assert times.after(us("2026-04-01T00:00")) is None
    assert times.pending(us("2026-04-01T00:00"), us("2027-04-01T00:00"), 5) == ([], 0)


def test_without_ephem_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ephem", None)

    with pytest.raises(ConfigError, match=r"pip install 'qctl\[solar\]'"):
        instants({"kind": "solar", "event": "sunset", "lat": 1, "lon": 1}, UTC)


# --- what is none


def test_the_schedule_of_a_project_cannot_be_computed() -> None:
    with pytest.raises(ConfigError, match="the schedule <mine> can only be computed by the project's code"):
        instants({"kind": "code", "text": "<mine>"}, UTC)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"kind": "moon"},
        {"kind": "interval"},
        {"kind": "interval", "every_s": 0},
        {"kind": "interval", "every_s": -1, "relative": True},
        {"kind": "interval", "every_s": "x"},
        {"kind": "interval", "every_s": 1e300},
        {"kind": "crontab", "minute": "61"},
        {"kind": "crontab", "minute": 5},
        {"kind": "crontab", "minute": [5]},
        {"kind": "crontab", "day_of_month": "30", "month_of_year": "2"},
        {"kind": "solar", "event": "sunset"},
        {"kind": "solar", "event": "sunst", "lat": 1, "lon": 1},
        {"kind": "solar", "event": "sunset", "lat": 91, "lon": 1},
        {"kind": "solar", "event": "sunset", "lat": "north", "lon": 1},
    ],
)
def test_a_spec_that_is_none_is_a_bad_schedule(spec: dict[str, Any]) -> None:
    with pytest.raises(BadSchedule):
        instants(spec, UTC)


# --- what it costs


class Counted:
    """Counts the questions to a time zone, and the months that are looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offsets = self.months = 0
        offset, in_month = zones.Zone.offset, Dates._in_month

        def counting_offset(zone: zones.Zone, instant: int) -> int:
            self.offsets += 1
            return offset(zone, instant)

        def counting_month(dates: Dates, *args: int) -> list[int]:
            self.months += 1
            return in_month(dates, *args)

        monkeypatch.setattr(zones.Zone, "offset", counting_offset)
        monkeypatch.setattr(Dates, "_in_month", counting_month)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    yield Counted(monkeypatch)


def test_the_next_time_of_a_crontab_takes_few_steps(counted: Counted) -> None:
    times = instants(parse("*/5 3 * * mon-fri"), ZoneInfo("America/Halifax"))
    times.after(us("2026-06-01T00:00"))
    counted.offsets = counted.months = 0

    for day in range(0, 300, 7):
        times.after(us("2026-06-01T00:00") + day * 86400 * S)

    assert counted.offsets == 0  # the changes of the zone are known
    assert counted.months <= 2 * 43


def test_a_year_of_minutes_is_counted_by_months(counted: Counted) -> None:
    times = instants(parse("* * * * *"), ZoneInfo("America/Halifax"))
    times.after(us("2026-06-01T00:00"))
    counted.months = 0

    newest, total = times.pending(us("2026-06-01T00:00"), us("2026-06-01T00:00") + YEAR, 100)

    assert (len(newest), total) == (100, 525_600)
    assert counted.months < 300


def test_a_year_of_seconds_is_one_division() -> None:
    times = instants({"kind": "interval", "every_s": 1}, UTC)
    calls = 0

    class Every(int):
        def __rfloordiv__(self, other: int) -> int:
            nonlocal calls
            calls += 1
            return other // int(self)

    times._every = Every(S)  # type: ignore[attr-defined]
    newest, total = times.pending(0, YEAR, 100)

    assert (len(newest), total, calls) == (100, 31_536_000, 1)


def test_a_year_of_relative_seconds_is_not_walked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    from qcore.schedules import instants as module

    ends = []
    monkeypatch.setattr(module, "relative_end", lambda *args: ends.append(args) or relative_end(*args))

    newest, total = instants({"kind": "interval", "every_s": 1, "relative": True}, BERLIN).pending(5, YEAR, 9)

    assert (len(newest), total, newest[-1]) == (9, 31_536_000, YEAR)
    assert len(ends) == 1
