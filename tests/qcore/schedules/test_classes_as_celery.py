"""The classes of schedules: the same lines on Celery's and on ours."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import celery
import celery.schedules
import pytest

from qcore.celery.app import Celery
from qcore.errors import ConfigError
from qcore.schedules import classes, fields
from tests.qcore.schedules.expressions import changes, crontab_text, instant
from tests.qcore.schedules.test_instants_oracle import ODD

CASES = int(os.environ.get("QCORE_CELERY_CASES", "1500"))
NOW = datetime(2026, 11, 28, 12, 0, 30, tzinfo=UTC)
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Ours:
    """The names of `celery.schedules`, with the classes of qcore."""

    BaseSchedule, crontab, schedule = classes.BaseSchedule, classes.crontab, classes.schedule
    solar, schedstate, maybe_schedule = classes.solar, classes.schedstate, classes.maybe_schedule
    cronfield, crontab_parser = classes.cronfield, fields.crontab_parser
    ParseException = fields.ParseException


THEIRS: Any = celery.schedules


def celerys(**settings: Any) -> Any:
    app = celery.Celery("theirs", set_as_current=False)
    app.conf.update(settings)
    return app


def ours(**settings: Any) -> Any:
    app = Celery("ours", broker="memory://", set_as_current=False)
    app.conf.update(settings)
    return app


def both(lines: Callable[[Any, Any], Any], **settings: Any) -> tuple[Any, Any]:
    """The outcome of the same lines with (the module, an app) of either."""
    return tuple(lines(module, app(**settings)) for module, app in ((THEIRS, celerys), (Ours, ours)))


def with_clock(schedule: Any, now: datetime, app: Any, tz: Any = UTC) -> Any:
    schedule.nowfun, schedule.app, schedule.tz = (lambda: now), app, tz
    return schedule


# --- crontab


def offset(at: int, tz: ZoneInfo) -> int:
    shift = datetime.fromtimestamp(at, tz).utcoffset()
    assert shift is not None
    return round(shift.total_seconds())


def rule_of_a_difference(zone: str, *instants: int) -> str:
    """Why the two may differ, by the section `Schedules` of docs/celery.md."""
    tz = ZoneInfo(zone)
    for change in changes(zone):
        shift = offset(change, tz) - offset(change - 1, tz)
        for at in instants:
            if shift > 0 and change <= at <= change + shift:
                return "a time that does not exist"
            if shift < 0 and change + shift <= at < change - shift:
                return "a time that occurs twice"
    return ""


def test_random_crontabs_are_due_when_celerys_are() -> None:
    rng = random.Random(7)
    apps = celerys(), ours()
    explained: dict[str, int] = {}
    for _ in range(CASES):
        zone = rng.choice(ODD)
        tz, text, start = ZoneInfo(zone), crontab_text(rng), instant(rng, zone)
        last = datetime.fromtimestamp(start, tz)
        now = datetime.fromtimestamp(start + rng.randint(-100_000, 100_000), tz)

        found = []
        for module, app in zip((THEIRS, Ours), apps, strict=True):
            crontab = with_clock(module.crontab.from_string(text), now, app, tz)
            found.append((crontab.remaining_estimate(last), crontab.remaining_estimate(now)))
            found[-1] += tuple(crontab.is_due(last))

        if found[0] != found[1]:
            ends = [round((now.astimezone(UTC) + left).timestamp()) for one in found for left in one[:2]]
            rule = rule_of_a_difference(zone, start, round(now.timestamp()), *ends)
            assert rule, f"'{text}' in {zone}, last run {last}, now {now}: {found[0]}, here {found[1]}"
            explained[rule] = explained.get(rule, 0) + 1

    assert set(explained) == {"a time that does not exist", "a time that occurs twice"}
    assert sum(explained.values()) < CASES * 0.04


def test_random_crontabs_in_utc_never_differ() -> None:
    rng = random.Random(8)
    apps = celerys(), ours()
    for _ in range(CASES // 4):
        text, start = crontab_text(rng), rng.randint(0, 3_000_000_000)
        last, now = (datetime.fromtimestamp(start + s, UTC) for s in (0, rng.randint(-100_000, 10_000_000)))

        theirs, here = (
            with_clock(module.crontab.from_string(text), now, app)
            for module, app in zip((THEIRS, Ours), apps, strict=True)
        )

        assert theirs.remaining_estimate(last) == here.remaining_estimate(last), (text, last)
        assert tuple(theirs.is_due(last)) == tuple(here.is_due(last)), (text, last, now)
        for name in ("minute", "hour", "day_of_week", "day_of_month", "month_of_year"):
            assert getattr(theirs, name) == getattr(here, name), text


def runs(module: Any, app: Any, text: str, zone: str, start: str, hours: int) -> list[str]:
    """What a scheduler runs that looks every five minutes, and when."""
    now = datetime.fromisoformat(start)
    crontab = with_clock(module.crontab.from_string(text), now, app, ZoneInfo(zone))
    last, found, end = now, [], now + timedelta(hours=hours)
    while (now := now + timedelta(minutes=5)) <= end:
        crontab.nowfun = lambda now=now: now
        if crontab.is_due(last).is_due:
            found.append(now.astimezone(ZoneInfo(zone)).strftime("%d %H:%M%z"))
            last = now
    return found


@pytest.mark.parametrize(
    ("text", "start", "hours", "theirs", "here"),
    [
        ("30 2 * * *", "2026-03-29T00:00Z", 4, ["29 03:30+0200"], ["29 03:00+0200"]),
        ("15,30 2 * * *", "2026-03-29T00:00Z", 4, ["29 03:15+0200"], ["29 03:00+0200"]),
        (
            "30 * * * *",
            "2026-10-25T00:00Z",
            3,
            ["25 02:30+0200", "25 03:30+0100"],
            ["25 02:30+0200", "25 02:30+0100", "25 03:30+0100"],
        ),
        ("30 2 * * *", "2026-10-24T20:00Z", 9, ["25 02:30+0200"], ["25 02:30+0200"]),
        # from a last run in the second 02:00 to 03:00 on
        (
            "30 * * * *",
            "2026-10-25T01:10Z",
            1,
            [f"25 02:{minute}+0100" for minute in (15, 20, 25, 30)],
            ["25 02:30+0100"],
        ),
    ],
)
def test_what_runs_on_the_days_of_a_change(
    text: str, start: str, hours: int, theirs: list[str], here: list[str]
) -> None:
    found = both(lambda module, app: runs(module, app, text, "Europe/Berlin", start, hours))

    assert found == (theirs, here)


@pytest.mark.parametrize("deadline", [None, 0, 30, 3600, 86_400])
@pytest.mark.parametrize("last", [NOON - timedelta(hours=h) for h in (0, 1, 5, 24, 100)])
def test_a_run_that_was_missed_is_due_within_the_deadline(deadline: Any, last: datetime) -> None:
    def lines(module: Any, app: Any) -> Any:
        crontab = with_clock(module.crontab(minute=0, hour="*/6"), NOW, app)
        return tuple(crontab.is_due(last))

    theirs, here = both(lines, beat_cron_starting_deadline=deadline)

    assert theirs == here


@pytest.mark.parametrize(
    "arguments",
    [
        {"minute": 5},
        {"minute": "*/15", "hour": "8-17"},
        {"minute": [0, 30], "hour": {1, 2}, "day_of_week": (1, 2)},
        {"minute": range(0, 60, 20), "month_of_year": "jan-mar"},
        {"day_of_week": "fri-mon", "hour": "22-4/2", "minute": "0, 30"},
        {"day_of_week": "Saturday,sun", "month_of_year": "MAY"},
    ],
)
def test_a_crontab_shows_the_same(arguments: dict[str, Any]) -> None:
    def lines(module: Any, app: Any) -> Any:
        one = module.crontab(**arguments, app=app)
        sets = one.minute, one.hour, one.day_of_week, one.day_of_month, one.month_of_year
        written = {name: value for name, value in vars(one).items() if name.startswith("_orig")}
        return repr(one), sets, {**written, "_orig_kwargs": list(written["_orig_kwargs"])}

    theirs, here = both(lines)

    assert theirs == here


def test_remaining_delta_leads_to_the_next_run() -> None:
    def lines(module: Any, app: Any) -> Any:
        crontab = with_clock(module.crontab(minute="30", hour="4", day_of_month="1"), NOW, app)
        last, delta, now = crontab.remaining_delta(NOON, tz="Asia/Tokyo")
        return last, last + delta, now

    theirs, here = both(lines)

    assert theirs == here
    assert here[1] == datetime(2026, 12, 1, 4, 30, tzinfo=ZoneInfo("Asia/Tokyo"))


# --- intervals


def within_an_hour(zone: str, *instants: int) -> bool:
    """Whether these are at a change of a time zone that is not at a full hour on the clock. Celery takes a
    time for the full hour there that is not the last one (docs/celery.md)."""
    tz = ZoneInfo(zone)
    odd = [at for at in changes(zone) if (at + offset(at - 1, tz)) % 3600]
    return any(all(abs(at - change) <= 7200 for at in instants) for change in odd)


@pytest.mark.parametrize(
    ("every_s", "start", "theirs_ends", "ends"),
    [
        (5400, "2022-09-25T01:18:36+12:45", "2022-09-25T04:00:00+13:45", "2022-09-25T03:45:00+13:45"),
        (51_090, "2023-04-01T13:41:00+13:45", "2023-04-02T02:00:00+13:45", "2023-04-02T03:00:00+13:45"),
    ],
)
def test_a_full_hour_next_to_a_change_of_the_zone(
    every_s: float, start: str, theirs_ends: str, ends: str
) -> None:
    def lines(module: Any, app: Any) -> Any:
        one = module.schedule(every_s, relative=True)
        last = datetime.fromisoformat(start).astimezone(ZoneInfo("Pacific/Chatham"))
        return last.astimezone(UTC) + with_clock(one, last, app, last.tzinfo).remaining_estimate(last)

    theirs, here = both(lines)

    assert (theirs, here) == (datetime.fromisoformat(theirs_ends), datetime.fromisoformat(ends))


def test_random_intervals_are_due_when_celerys_are() -> None:
    rng = random.Random(9)
    apps = celerys(), ours()
    lengths = (
        0.25,
        1,
        1.5,
        30,
        59,
        60,
        61,
        90,
        1800,
        3599,
        3600,
        5400,
        7200,
        86_399,
        86_400,
        100_000,
        604_800,
    )
    for _ in range(CASES // 2):
        zone = rng.choice(ODD)
        tz, every = ZoneInfo(zone), timedelta(seconds=rng.choice((*lengths, rng.randint(1, 200_000))))
        start = datetime.fromtimestamp(instant(rng, zone), UTC) + timedelta(
            microseconds=rng.randint(0, 999_999)
        )
        last, relative = start.astimezone(tz), rng.random() < 0.8
        now = (start + timedelta(seconds=rng.uniform(-1000, 2 * every.total_seconds()))).astimezone(tz)

        theirs, here = (
            with_clock(module.schedule(every, relative), now, app, tz)
            for module, app in zip((THEIRS, Ours), apps, strict=True)
        )

        found = [(one.remaining_estimate(last), tuple(one.is_due(last))) for one in (theirs, here)]
        if found[0] != found[1]:
            ends = [round((now.astimezone(UTC) + one[0]).timestamp()) for one in found]
            where = f"{every} relative={relative} in {zone} from {last}, now {now}: {found}"
            assert relative and every < timedelta(days=1) and within_an_hour(zone, *ends), where


@pytest.mark.parametrize("seconds", [0, 0.004, 0.5, 1, 1.5, 60, 61, 90, 3600, 86_400, 200_000, -5])
def test_an_interval_shows_the_same(seconds: float) -> None:
    def lines(module: Any, app: Any) -> Any:
        one = module.schedule(seconds, app=app)
        return repr(one), one.seconds, one.human_seconds, one.run_every, one.relative

    theirs, here = both(lines)

    assert theirs == here


# --- solar


@pytest.mark.parametrize("event", sorted(classes.solar._all_events))
@pytest.mark.parametrize("place", [(52.5, 13.4), (-33.9, 151.2), (69.6, 18.9), (0, 0)])
def test_the_sun_is_where_celerys_is(event: str, place: tuple[float, float]) -> None:
    def lines(module: Any, app: Any) -> Any:
        found = []
        for day in range(0, 400, 23):
            last = NOON + timedelta(days=day)
            one = with_clock(module.solar(event, *place), last + timedelta(hours=15), app)
            found += [one.remaining_estimate(last), tuple(one.is_due(last)), repr(one)]
        return found

    theirs, here = both(lines)

    assert theirs == here


@pytest.mark.parametrize("arguments", [("sunst", 1, 1), ("sunset", 91, 0), ("sunset", 0, -181)])
def test_a_place_or_event_that_is_none_is_a_value_error(arguments: Any) -> None:
    for module in (THEIRS, Ours):
        with pytest.raises(ValueError):
            module.solar(*arguments)


def test_without_ephem_a_solar_schedule_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ephem", None)

    with pytest.raises(ConfigError, match=r"pip install 'qctl\[solar\]'"):
        classes.solar("sunset", 1, 1)


# --- all of them


class Custom(classes.schedule):
    def is_due(self, last_run_at: datetime) -> Any:
        return classes.schedstate(True, 3.0)


def clock() -> datetime:
    return NOW


@pytest.mark.parametrize(
    "one",
    [
        classes.schedule(30, True),
        classes.schedule(timedelta(days=2), nowfun=clock),
        classes.crontab("*/5", [1, 2], "mon", nowfun=clock),
        classes.solar("sunset", 1.5, 2),
        Custom(10),
    ],
)
def test_a_copy_by_pickle_is_equal(one: Any) -> None:
    copy = pickle.loads(pickle.dumps(one))

    assert copy == one
    assert (type(copy), hash(copy), repr(copy)) == (type(one), hash(one), repr(one))
    assert copy.nowfun is one.nowfun


def test_what_is_equal_is_what_is_equal_in_celery() -> None:
    def lines(module: Any, app: Any) -> Any:
        values = [
            *(
                module.schedule(30),
                module.schedule(timedelta(seconds=30), relative=True),
                module.schedule(31),
            ),
            *(module.crontab(), module.crontab("*"), module.crontab("*/1"), module.crontab(5)),
            *(module.crontab(nowfun=clock), module.solar("sunset", 1, 2), module.solar("sunset", 1, 3)),
            *(module.BaseSchedule(), module.BaseSchedule(nowfun=clock), timedelta(seconds=30), 30, None, "x"),
        ]
        return [[a == b for a in values] for b in values]

    theirs, here = both(lines)

    assert theirs == here


def test_equal_schedules_have_one_hash() -> None:
    assert len({classes.crontab("*/30"), classes.crontab([0, 30]), classes.crontab({30, 0})}) == 1
    assert len({classes.schedule(30), classes.schedule(timedelta(seconds=30))}) == 1


@pytest.mark.parametrize("value", [30, 2.5, timedelta(minutes=1), None])
def test_maybe_schedule_makes_one_of_the_same(value: Any) -> None:
    def lines(module: Any, app: Any) -> Any:
        one = module.maybe_schedule(value, relative=True, app=app)
        return one and (repr(one), one.relative, one.app is app)

    theirs, here = both(lines)

    assert theirs == here


def test_maybe_schedule_gives_a_schedule_its_app() -> None:
    app, one = ours(), classes.crontab()

    assert classes.maybe_schedule(one, app=app) is one
    assert one.app is app


@pytest.mark.parametrize("enable_utc", [True, False])
def test_times_get_the_time_zone_of_the_app(enable_utc: bool) -> None:
    naive, aware = datetime(2026, 7, 1, 12), datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Asia/Tokyo"))

    def lines(module: Any, app: Any) -> Any:
        one = module.schedule(30, app=app)
        times = one.maybe_make_aware(naive), one.maybe_make_aware(naive, False), one.maybe_make_aware(aware)
        return [str(t) for t in (*times, one.tz, one.utc_enabled)], str(one.to_local(aware).astimezone(UTC))

    theirs, here = both(lines, timezone="Europe/Berlin", enable_utc=enable_utc)

    assert theirs == here


def test_a_schedule_without_an_app_uses_the_current_one() -> None:
    from qcore.tasks.current_app import current_app, is_set, set_current

    before = current_app() if is_set() else None
    app = ours(timezone="Asia/Tokyo")
    set_current(app)
    try:
        one = classes.crontab()

        assert one.app is app
        assert str(one.tz) == "Asia/Tokyo"
        assert one.now().utcoffset() == timedelta(hours=9)
    finally:
        set_current(before)


def test_a_base_schedule_names_what_it_lacks() -> None:
    with pytest.raises(NotImplementedError, match="BaseSchedule has no is_due"):
        classes.BaseSchedule().is_due(NOW)


def test_a_crontab_of_four_fields_is_an_error() -> None:
    with pytest.raises(ValueError, match="has 4 fields; a crontab has five"):
        classes.crontab.from_string("* * * *")
