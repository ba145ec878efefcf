"""Crontabs in time zones against a scan of every minute, which knows nothing of how instants are found.

QCORE_CRON_CASES=100000 tries so many crontabs x instants, over all time zones that Python knows.
"""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest

from qcore.schedules.fields import crontab_parser
from qcore.schedules.instants import Instants, instants
from qcore.wire.schedule import DST
from tests.qcore.schedules.expressions import changes, crontab_text, instant

CASES = int(os.environ.get("QCORE_CRON_CASES", "1000"))
#: DST of half an hour, of two hours, odd offsets, changes at midnight, in Ramadan, and none at all
ODD = (
    *("Europe/Berlin", "Australia/Lord_Howe", "Pacific/Chatham", "Antarctica/Troll", "America/Santiago"),
    *("America/Asuncion", "Africa/Casablanca", "Asia/Beirut", "America/St_Johns", "Asia/Kathmandu", "UTC"),
    *("Africa/Cairo", "America/New_York", "Europe/Dublin"),
)
CASES_OF_A_WINDOW = 40
SETS = ((60, 0), (24, 0), (31, 1), (12, 1), (7, 0))


Wall = tuple[int, int, int, int, int]  # minute, hour, day, month, weekday


class Minutes:
    """Every minute of some days in a time zone, and what a clock on the wall shows."""

    def __init__(self, zone: str, first: int, end: int) -> None:
        tz = ZoneInfo(zone)
        self.real: list[tuple[int, Wall]] = []
        #: what the clock shows for the first time; all that it jumps over counts for the minute it jumps to
        self.first_time: list[tuple[int, Wall]] = []
        moment, shown = datetime.fromtimestamp(first, UTC), None
        for at in range(first, end + 1, 60):
            wall = moment.astimezone(tz).replace(tzinfo=None)
            moment += timedelta(minutes=1)
            self.real.append((at, fields(wall)))
            if shown is None:
                shown = wall - timedelta(minutes=1)
            while shown < wall:
                shown += timedelta(minutes=1)
                self.first_time.append((at, fields(shown)))

    def scan(self, text: str, start: int, end: int, dst: str) -> list[int]:
        """The instants in (start, end] by the policy."""
        minutes, hours, days, months, weekdays = (
            crontab_parser(*size).parse(part) for size, part in zip(SETS, text.split(), strict=True)
        )
        each = len(hours) == 24 if dst == "auto" else dst == "each"
        found = {
            at
            for at, (minute, hour, day, month, weekday) in (self.real if each else self.first_time)
            if minute in minutes
            and hour in hours
            and day in days
            and month in months
            and weekday in weekdays
            and start < at <= end
        }
        return sorted(found)


def fields(wall: datetime) -> Wall:
    return wall.minute, wall.hour, wall.day, wall.month, wall.isoweekday() % 7


def walk(times: Instants, start: int, end: int) -> list[int]:
    """The same by after()."""
    found, at = [], times.after(start * 1_000_000 + 999_999)
    while at is not None and at <= end * 1_000_000:
        found.append(at // 1_000_000)
        at = times.after(at)
    return found


def spec(text: str) -> dict[str, str]:
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    return {"kind": "crontab", **dict(zip(names, text.split(), strict=True))}


def test_instants_are_those_that_a_scan_of_every_minute_finds() -> None:
    rng = random.Random(20261128)
    zones = sorted(available_timezones() - {"localtime"}) if CASES >= 100_000 else list(ODD)
    seen = set()
    for number in range(-(-CASES // CASES_OF_A_WINDOW)):
        zone = zones[number % len(zones)]
        middle = instant(rng, zone)
        first = middle // 60 * 60 - 2 * 86400
        minutes = Minutes(zone, first, first + 4 * 86400)
        for _ in range(CASES_OF_A_WINDOW):
            text = crontab_text(rng)
            # The clock of two days before tells what it has shown before.
            begin = middle + rng.randint(-43_200, 43_200)
            end = begin + rng.randint(3600, 86_400)
            dst = rng.choice(DST)
            times = instants(spec(text), ZoneInfo(zone), dst)
            expected = minutes.scan(text, begin, end, dst)

            found = walk(times, begin, end)
            newest, total = times.pending(begin * 1_000_000, end * 1_000_000, 7)

            where = f"'{text}' ({dst}) in {zone} after {datetime.fromtimestamp(begin, UTC)}"
            assert found == expected, where
            assert total == len(expected), where
            assert [at // 1_000_000 for at in newest] == expected[-7:], where
            seen.add((zone, len(expected) > 0))

    assert {zone for zone, some in seen if some} == set(zones[: -(-CASES // CASES_OF_A_WINDOW)])


@pytest.mark.parametrize("zone", ODD)
def test_the_zones_of_the_test_have_the_changes_that_it_is_about(zone: str) -> None:
    assert bool(changes(zone)) == (zone not in ("Asia/Kathmandu", "UTC"))
