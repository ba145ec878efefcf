"""Entries and the heap of scheduler classes: the same lines run on Celery's module and on ours."""

from __future__ import annotations

import pickle
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.qcore.beat.kits import KITS, START, Clock, Line, make_app, recording


@pytest.fixture(params=KITS, ids=lambda kit: kit.name)
def kit(request: pytest.FixtureRequest) -> Any:
    return request.param


# --- entries


def test_an_entry_and_the_one_after_it(kit: Any, redis_url: str) -> None:
    app, clock = make_app(kit, redis_url), Clock()
    every = kit.schedules.schedule(10.0, nowfun=clock, app=app)

    entry = kit.Entry("a", "t.a", schedule=every, args=(1,), kwargs={"x": 2}, options={"queue": "q"}, app=app)
    clock.go(5)
    following = next(entry)

    assert (entry.last_run_at, entry.total_run_count) == (START, 0)
    assert (following.last_run_at, following.total_run_count) == (START + timedelta(seconds=5), 1)
    assert tuple(entry.is_due()) == (False, 5.0) and tuple(following.is_due()) == (False, 10.0)
    assert following == entry and entry.editable_fields_equal(following)
    assert repr(entry).startswith(f"<ScheduleEntry: a t.a(1, x=2) {every!r}")
    assert dict(entry)["options"] == {"queue": "q"}
    assert (entry < following) != (following < entry)


def test_an_entry_takes_the_fields_of_another_and_keeps_its_state(kit: Any, redis_url: str) -> None:
    app = make_app(kit, redis_url)
    entry = kit.Entry("a", "t.a", START, 7, 10.0, app=app)

    entry.update(kit.Entry("a", "t.b", schedule=20.0, args=(1,), app=app))

    assert (entry.task, entry.args, entry.schedule.seconds) == ("t.b", (1,), 20.0)
    assert (entry.last_run_at, entry.total_run_count) == (START, 7)


def test_a_pickled_entry_is_the_same(kit: Any, redis_url: str) -> None:
    app = make_app(kit, redis_url)
    app.set_default()
    entry = kit.Entry("a", "t.a", START, 7, kit.schedules.crontab(minute="*/5"), (1,), app=app)

    again = pickle.loads(pickle.dumps(entry))

    assert again == entry
    assert (again.name, again.last_run_at, again.total_run_count) == ("a", START, 7)


# --- the heap


@pytest.mark.parametrize("step", [0.5, 1.0, 3.7])
def test_ticks_publish_what_is_due_and_say_how_long_to_wait(step: float, redis_url: str) -> None:
    found = {}
    for kit in KITS:
        app, clock = make_app(kit, redis_url, beat_max_loop_interval=2), Clock()
        app.conf.beat_schedule = {
            "a": {"task": "t.a", "schedule": Line(clock, 2, 4, 6, 8), "args": (1,)},
            "b": {"task": "t.b", "schedule": Line(clock, 3), "kwargs": {"k": 1}, "options": {"queue": "q"}},
            "c": {"task": "t.c", "schedule": Line(clock, 7)},
        }
        scheduler = recording(kit)(app)
        lines: list[Any] = []
        for _ in range(30):
            pause = scheduler.tick()
            lines.append((round(pause, 4), len(scheduler.sent)))
            if pause:
                clock.go(step)
        counts = {name: entry.total_run_count for name, entry in scheduler.schedule.items()}
        found[kit.name] = lines, scheduler.sent, counts

    assert found["qcore"] == found["celery"]
    assert len(found["qcore"][1]) >= 4
    assert {"celery_beat_task": True} in [options.get("headers") for *_, options in found["qcore"][1]]


@pytest.mark.parametrize("seed", range(40))
def test_random_schedules_are_published_as_by_celery(seed: int, redis_url: str) -> None:
    found = {}
    for kit in KITS:
        chance = random.Random(seed)
        app, clock = make_app(kit, redis_url, beat_max_loop_interval=chance.choice([0.5, 3, 20])), Clock()
        app.conf.beat_schedule = {
            f"e{n}": {
                "task": f"t.e{n}",
                "schedule": Line(clock, *sorted(chance.uniform(0, 30) for _ in range(chance.randrange(8)))),
            }
            for n in range(chance.randrange(1, 6))
        }
        scheduler = recording(kit)(app)
        lines = []
        for _ in range(60):
            pause = scheduler.tick()
            lines.append((round(pause, 4), len(scheduler.sent)))
            if pause:
                clock.go(chance.choice([pause, pause, pause + 0.02, pause * 3, 0.3]))
        found[kit.name] = lines, scheduler.sent

    assert found["qcore"] == found["celery"]


def test_an_entry_that_cannot_tell_when_stops_no_other_one(kit: Any, redis_url: str) -> None:
    class Broken(Line):
        def is_due(self, last_run_at: datetime) -> Any:
            raise ValueError("not computed")

    app, clock = make_app(kit, redis_url), Clock()
    app.conf.beat_schedule = {
        "bad": {"task": "t.bad", "schedule": Broken(clock)},
        "good": {"task": "t.good", "schedule": Line(clock, 1)},
    }
    scheduler = recording(kit)(app)
    clock.go(2)

    for _ in range(5):
        scheduler.tick()

    assert [name for name, *_ in scheduler.sent] == ["t.good"]


def test_an_entry_that_is_not_due_after_all_lets_the_others_pass(kit: Any, redis_url: str) -> None:
    class Later(kit.Scheduler):  # type: ignore[name-defined, misc]
        def is_due(self, entry: Any) -> Any:
            return (False, 30.0) if entry.name == "first" else entry.is_due()

    app, clock = make_app(kit, redis_url), Clock()
    app.conf.beat_schedule = {
        "first": {"task": "t.first", "schedule": Line(clock, 1)},
        "second": {"task": "t.second", "schedule": Line(clock, 2)},
    }
    scheduler = recording(kit, Later)(app)
    scheduler.populate_heap()
    scheduler.old_schedulers = dict(scheduler.schedule)
    clock.go(5)

    pauses = [scheduler.tick() for _ in range(3)]

    assert [name for name, *_ in scheduler.sent] == ["t.second"]
    assert pauses[:2] == [0, 0] and 29 < pauses[2] <= 30


def test_entries_that_change_while_it_runs(kit: Any, redis_url: str) -> None:
    app, clock = make_app(kit, redis_url), Clock()
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": Line(clock, 1, 2, 3)}}
    scheduler = recording(kit)(app)
    clock.go(1)
    scheduler.tick()

    scheduler.add(name="b", task="t.b", schedule=Line(clock, 2), last_run_at=clock())
    scheduler.schedule["a"].update(kit.Entry("a", "t.other", schedule=Line(clock, 2), app=app))
    clock.go(1)
    for _ in range(4):
        scheduler.tick()

    assert sorted(name for name, *_ in scheduler.sent) == ["t.a", "t.b", "t.other"]


def test_an_empty_schedule_waits_for_the_longest_time(kit: Any, redis_url: str) -> None:
    app = make_app(kit, redis_url)

    assert recording(kit)(app, max_interval=17).tick() == 17
    assert recording(kit)(app).tick() == 300
    assert recording(kit)(make_app(kit, redis_url, beat_max_loop_interval=9)).tick() == 9


def test_sync_comes_after_so_many_tasks(kit: Any, redis_url: str) -> None:
    app, clock = make_app(kit, redis_url, beat_sync_every=2), Clock()
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": Line(clock, 1, 2, 3, 4, 5)}}

    class Counting(kit.Scheduler):  # type: ignore[name-defined, misc]
        syncs = 0

        def sync(self) -> None:
            self.syncs += 1

    scheduler = recording(kit, Counting)(app)
    found = []
    for _ in range(5):
        clock.go(1)
        scheduler.tick()
        found.append((len(scheduler.sent), scheduler.syncs))

    assert found == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)]


# --- the entries of a scheduler


def test_merging_keeps_the_state_of_what_stays(kit: Any, redis_url: str) -> None:
    app = make_app(kit, redis_url)
    scheduler = recording(kit)(app)
    stays = kit.Entry("stays", "t.old", START, 5, 10.0, app=app)
    scheduler.schedule = {"stays": stays, "goes": kit.Entry("goes", "t.x", START, 1, 10.0, app=app)}

    scheduler.merge_inplace(
        {"stays": {"task": "t.new", "schedule": 20.0}, "comes": {"task": "t.c", "schedule": 1}}
    )

    assert sorted(scheduler.schedule) == ["comes", "stays"]
    assert (stays.task, stays.schedule.seconds, stays.total_run_count) == ("t.new", 20.0, 5)
    scheduler.update_from_dict(
        {"more": {"task": "t.m", "schedule": 3}, "whole": kit.Entry("whole", "t.w", app=app)}
    )
    assert sorted(scheduler.schedule) == ["comes", "more", "stays", "whole"]


def test_the_old_results_are_deleted_daily_where_they_do_not_expire(
    kit: Any, redis_url: str, tmp_path: Path
) -> None:
    database = f"db+sqlite:///{tmp_path / 'results.db'}"
    apps = {
        "redis": make_app(kit, redis_url),
        "database": kit.Celery("p", broker=redis_url, backend=database, set_as_current=False),
        "kept": kit.Celery("p", broker=redis_url, backend=database, set_as_current=False),
        "own": kit.Celery("p", broker=redis_url, backend=database, set_as_current=False),
        "none": kit.Celery("p", broker=redis_url, backend="disabled://", set_as_current=False),
    }
    apps["kept"].conf.result_expires = None
    own = {"task": "celery.backend_cleanup", "schedule": 60.0}
    apps["own"].conf.beat_schedule = {"celery.backend_cleanup": own}
    scheduler = {
        name: recording(kit, kit.PersistentScheduler)(app, schedule_filename=str(tmp_path / name))
        for name, app in apps.items()
    }

    found = {name: one.schedule.get("celery.backend_cleanup") for name, one in scheduler.items()}

    assert found["redis"] is None and found["kept"] is None
    for name in ("database", "none"):
        assert found[name].schedule == kit.schedules.crontab("0", "4")
        assert found[name].options == {"expires": 43200}
    assert found["own"].schedule.seconds == 60


def test_lazy_arguments_are_computed_when_the_task_is_published(kit: Any, redis_url: str) -> None:
    app, clock = make_app(kit, redis_url), Clock()
    lazy = kit.Lazy(lambda *args, **kwargs: [str(clock.time.second), *args, *kwargs.values()], 1, k=2)
    app.conf.beat_schedule = {
        "a": {"task": "t.a", "schedule": Line(clock, 1, 2), "args": (lazy, 5), "kwargs": {"at": lazy}}
    }
    scheduler = recording(kit)(app)
    for _ in range(2):
        clock.go(1)
        scheduler.tick()

    assert [(args, kwargs) for _, args, kwargs, _ in scheduler.sent] == [
        ([["1", 1, 2], 5], {"at": ["1", 1, 2]}),
        ([["2", 1, 2], 5], {"at": ["2", 1, 2]}),
    ]
