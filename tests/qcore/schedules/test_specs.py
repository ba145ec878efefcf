"""Specs: from objects and texts, into words; and what is wrong with a text, and where."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import celery.schedules
import pytest

from qcore.errors import BadSchedule, ConfigError
from qcore.schedules import classes, crontab, schedule, solar
from qcore.schedules.specs import parse, text_of, to_spec
from qcore.schedules.words import words

CRON = {"minute": "*", "hour": "*", "day_of_month": "*", "month_of_year": "*", "day_of_week": "*"}


def cron(**fields: str) -> dict[str, Any]:
    return {"kind": "crontab", **CRON, **fields}


def every(seconds: float, relative: bool = False) -> dict[str, Any]:
    return {"kind": "interval", "every_s": seconds, "relative": relative}


class WithArguments(schedule):
    def __init__(self, run_every: Any, start: int = 0) -> None:
        self.start = start
        super().__init__(run_every)


class WithOwnRule(schedule):
    def is_due(self, last_run_at: datetime) -> Any:
        return classes.schedstate(True, 3.0)

    def __repr__(self) -> str:
        return "<every\n  third>"


class WithOwnEstimate(crontab):
    def remaining_estimate(self, last_run_at: datetime, ffwd: Any = None) -> timedelta:
        return timedelta(0)


def clock() -> datetime:
    return datetime.now(ZoneInfo("Asia/Tokyo"))


@pytest.mark.parametrize(
    ("value", "spec"),
    [
        (30, every(30.0)),
        (2.5, every(2.5)),
        (timedelta(minutes=5), every(300.0)),
        (schedule(30), every(30.0)),
        (schedule(timedelta(hours=1), relative=True), every(3600.0, True)),
        (WithArguments(60, start=5), every(60.0)),
        (crontab(), cron()),
        (
            crontab("*/5", 4, day_of_week="mon-fri", day_of_month="1,15", month_of_year="Jan"),
            cron(minute="*/5", hour="4", day_of_week="mon-fri", day_of_month="1,15", month_of_year="Jan"),
        ),
        (crontab([30, 0], {1}, range(3)), cron(minute="0,30", hour="1", day_of_week="0,1,2")),
        (solar("sunset", 52.5, 13), {"kind": "solar", "event": "sunset", "lat": 52.5, "lon": 13.0}),
        (celery.schedules.schedule(30), every(30.0)),
        (celery.schedules.crontab("*/5", 4), cron(minute="*/5", hour="4")),
        (celery.schedules.crontab("jan", 4), cron(minute="1", hour="4")),  # which is an error here
        (
            celery.schedules.solar("sunset", 52.5, 13),
            {"kind": "solar", "event": "sunset", "lat": 52.5, "lon": 13.0},
        ),
        (WithOwnRule(3), {"kind": "code", "text": "<every third>"}),
        (WithOwnEstimate(5), {"kind": "code", "text": repr(crontab(5))}),
        (crontab(5, nowfun=clock), {"kind": "code", "text": repr(crontab(5))}),
        (celery.schedules.crontab(5, nowfun=clock), {"kind": "code", "text": repr(crontab(5))}),
    ],
)
def test_the_spec_of_a_schedule(value: Any, spec: dict[str, Any]) -> None:
    assert to_spec(value) == spec


@pytest.mark.parametrize("value", [None, "x", object(), True, {"minute": 5}, crontab])
def test_what_is_no_schedule_has_no_spec(value: Any) -> None:
    with pytest.raises(BadSchedule, match="is no schedule; use a number of seconds, a timedelta or an"):
        to_spec(value)


@pytest.mark.parametrize("value", [0, -3, timedelta(0), schedule(0), float("nan"), float("inf"), 1e300])
def test_an_interval_that_has_no_length_has_no_spec(value: Any) -> None:
    with pytest.raises(BadSchedule, match="interval"):
        to_spec(value)


@pytest.mark.parametrize(
    ("text", "spec", "phrase"),
    [
        ("30s", every(30.0), "every 30 seconds"),
        ("every 30s", every(30.0), "every 30 seconds"),
        ("every 0.5s", every(0.5), "every 0.5 seconds"),
        ("5m", every(300.0), "every 5 minutes"),
        ("  2h ", every(7200.0), "every 2 hours"),
        ("1d", every(86_400.0), "every day"),
        ("1h30m", every(5400.0), "every 90 minutes"),
        ("Every 5 minutes", every(300.0), "every 5 minutes"),
        ("every hour", every(3600.0), "every hour"),
        ("every 100 secs", every(100.0), "every 100 seconds"),
        ("* * * * *", cron(), "every minute"),
        ("*/5 * * * mon-fri", cron(minute="*/5", day_of_week="mon-fri"), "every 5 minutes on weekdays (X)"),
        (
            "0 4 1 * *",
            cron(minute="0", hour="4", day_of_month="1"),
            "at 04:00 on the first of each month (X)",
        ),
        ("  0   4\t* * * ", cron(minute="0", hour="4"), "at 04:00 every day (X)"),
        ("@hourly", cron(minute="0"), "every hour"),
        ("@daily", cron(minute="0", hour="0"), "at 00:00 every day (X)"),
        ("@midnight", cron(minute="0", hour="0"), "at 00:00 every day (X)"),
        ("@Weekly", cron(minute="0", hour="0", day_of_week="0"), "at 00:00 on Sundays (X)"),
        ("@monthly", cron(minute="0", hour="0", day_of_month="1"), "at 00:00 on the first of each month (X)"),
        (
            "@yearly",
            cron(minute="0", hour="0", day_of_month="1", month_of_year="1"),
            "at 00:00 on the first of January (X)",
        ),
        (
            "sunset 52.5 13.4",
            {"kind": "solar", "event": "sunset", "lat": 52.5, "lon": 13.4},
            "at sunset at latitude 52.5, longitude 13.4",
        ),
        (
            "dawn_civil -33 151",
            {"kind": "solar", "event": "dawn_civil", "lat": -33.0, "lon": 151.0},
            "at civil dawn at latitude -33, longitude 151",
        ),
    ],
)
def test_a_text_its_spec_and_the_words_for_it(text: str, spec: dict[str, Any], phrase: str) -> None:
    assert parse(text) == spec
    assert words(parse(text), "X") == phrase


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("30 * * * *", "at minute 30 of every hour"),
        ("0,20 * * * *", "at minutes 0 and 20 of every hour"),
        ("*/7 * * * *", "at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"),
        ("*/15 9-17 * * mon-fri", "every 15 minutes from 09:00 to 17:45 on weekdays"),
        ("* 9-17 * * *", "every minute from 09:00 to 17:59"),
        ("* 1,3 * * *", "every minute of the hours 1 and 3"),
        ("0 9-17 * * *", "every hour from 09:00 to 17:00"),
        ("0 22-4 * * *", "at minute 0 of the hours 0, 1, 2, 3, 4, 22 and 23"),
        ("0 */2 * * *", "every 2 hours"),
        ("15 */6 * * *", "every 6 hours at minute 15"),
        ("0 */12 * * *", "at 00:00 and 12:00 every day"),
        ("0 4,16 1,15 jan,jul *", "at 04:00 and 16:00 on the 1st and 15th of January and July"),
        ("0 6 1-7 * mon", "at 06:00 on Mondays that are the 1st to 7th of a month"),
        ("0 6 2,3 may fri", "at 06:00 on Fridays that are the 2nd and 3rd of May"),
        ("0 6 11-13 * *", "at 06:00 on the 11th to 13th of each month"),
        ("0 6 21,22,23 * *", "at 06:00 on the 21st to 23rd of each month"),
        ("0 12 * dec *", "at 12:00 every day in December"),
        ("*/5 * * dec *", "every 5 minutes in December"),
        ("0 0 * * fri-mon", "at 00:00 on Mondays, Fridays, Saturdays and Sundays"),
        ("0 0 * jun sat,sun", "at 00:00 on weekends in June"),
    ],
)
def test_a_crontab_in_words(text: str, phrase: str) -> None:
    assert words(parse(text)) == phrase


@pytest.mark.parametrize(
    ("spec", "phrase"),
    [
        (every(30, True), "every 30 seconds"),
        (every(60, True), "every minute, at full minutes"),
        (every(7200, True), "every 2 hours, at full hours"),
        (every(86_400, True), "every day, at midnight"),
        ({"kind": "code", "text": "<mine>"}, "computed by the project: <mine>"),
    ],
)
def test_other_schedules_in_words(spec: dict[str, Any], phrase: str) -> None:
    assert words(spec) == phrase


FIVE = "a crontab has five: minute, hour, day of month, month, day of week"
LENGTH = "is no length of time; write 30s, 5m, 2h, 1h30m or 1d"


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("61 * * * *", 0, "the minute '61' is not in 0-59"),
        ("0 25 * * *", 2, "the hour '25' is not in 0-23"),
        ("0  25 * * *", 3, "the hour '25' is not in 0-23"),
        ("0 1-25 * * *", 4, "the hour '25' is not in 0-23"),
        ("1,2,61 * * * *", 4, "the minute '61' is not in 0-59"),
        ("* * 0 * *", 4, "the day of month '0' is not in 1-31"),
        ("* * * * 7", 8, "the day of week '7' is not in 0-6; Sunday is 0"),
        ("* * * * mun", 8, "the day of week 'mun' is no value of this field; did you mean 'sun' or 'mon'?"),
        ("* * * jann *", 6, "the month 'jann' is no value of this field; did you mean 'jan'?"),
        (
            "* * * fri *",
            6,
            "the month 'fri' is no value of this field; write one of 1-12 or a name such as feb",
        ),
        ("mon * * * *", 0, "the minute 'mon' is no value of this field; write one of 0-59"),
        ("*/0 * * * *", 2, "the minute '*/0' has the step '0'; write a number above 0 behind the slash"),
        ("* */x * * *", 4, "the hour '*/x' has the step 'x'; write a number above 0 behind the slash"),
        ("*/ * * * *", 2, "the minute '*/' has an empty step; write a number above 0 behind the slash"),
        ("5/10 * * * *", 0, "the minute '5/10' has a step without a range; write 5-59/10 or */10"),
        ("1,,2 * * * *", 2, "the minute has an empty part; write a value between the commas"),
        ("* * * * mon-", 12, "the day of week lacks a value; write one of 0-6"),
        ("-5 * * * *", 0, "the minute '-5' is negative; write one of 0-59"),
        (
            "0 0 31 feb *",
            4,
            "the day of month '31' never occurs in the month 'feb'; these months have at most 29 days",
        ),
        ("* * * *", 7, f"'* * * *' has 4 fields; {FIVE}"),
        ("* * * * * *", 10, f"'* * * * * *' has 6 fields; {FIVE}"),
        ("@dayly", 0, "there is no schedule '@dayly'; did you mean '@daily'?"),
        ("@daily x", 7, "behind @daily stands 'x'; @daily stands alone"),
        ("every", 5, "behind 'every' stands nothing; write the length, such as every 30s"),
        ("every 45", 6, "'45' is no length of time; write 45s, 5m, 2h, 1h30m or 1d"),
        ("30", 0, f"'30' {LENGTH}"),
        ("5x", 0, f"'5x' {LENGTH}"),
        ("every 5 weeks", 6, f"'5 weeks' {LENGTH}"),
        ("every 0s", 6, "an interval is longer than 0 s, and this one is 0 s"),
        ("sunst 52 13", 0, "'sunst' is no schedule; did you mean 'sunset'?"),
        ("sunset 52", 9, "sunset needs a latitude and a longitude; write sunset 52.5 13.4"),
        ("sunset 152 13", 7, "the latitude 152.0 is not in -90 to 90 degrees"),
        ("sunset 52 213", 10, "the longitude 213.0 is not in -180 to 180 degrees"),
        ("sunset 52 x", 10, "the longitude 'x' is no number of degrees, such as 52.5"),
        ("sunset 52 nan", 10, "the longitude nan is not in -180 to 180 degrees"),
    ],
)
def test_what_is_wrong_with_a_text_and_where(text: str, position: int, message: str) -> None:
    with pytest.raises(BadSchedule) as caught:
        parse(text)

    assert (str(caught.value), caught.value.position) == (message, position)


@pytest.mark.parametrize("text", ["", "   ", "hello", "each day at noon"])
def test_a_text_that_is_no_schedule_at_all_gets_examples(text: str) -> None:
    with pytest.raises(ConfigError, match=r"an interval such as 'every 30s', or 'sunset 52.5 13.4'"):
        parse(text)


def test_a_misspelt_kind_of_schedule_in_code_is_an_attribute_error() -> None:
    import qcore.schedules

    assert set(qcore.schedules.__all__) <= {*dir(classes), "ParseException", "crontab_parser"}
    with pytest.raises(AttributeError, match="cronttab"):
        _ = qcore.schedules.cronttab


@pytest.mark.parametrize(
    "text",
    [
        "every 30s",
        "every 0.25s",
        "every 1000000s",
        "*/5 8-18 * * mon-fri",
        "0 4 1,15 * *",
        "sunset 52.5 -13.4",
    ],
)
def test_a_spec_is_written_as_the_text_that_makes_it(text: str) -> None:
    assert text_of(parse(text)) == text


@pytest.mark.parametrize(
    "spec", [{}, {"kind": "code", "text": "Tides()"}, {"kind": "interval", "every_s": "x"}]
)
def test_what_is_no_text_is_written_as_none(spec: dict[str, Any]) -> None:
    assert text_of(spec) == ""


def test_the_sets_of_a_crontab_are_its_own_and_a_change_of_them_counts() -> None:
    changed, other = crontab("*/30", 4), crontab("*/30", 4)
    assert (changed.minute, changed.hour) == ({0, 30}, {4})

    changed.minute.add(45)
    changed.hour = {5}

    assert to_spec(changed) == cron(minute="0,30,45", hour="5")
    assert to_spec(other) == cron(minute="*/30", hour="4")
    assert other.minute == {0, 30} and changed != other
