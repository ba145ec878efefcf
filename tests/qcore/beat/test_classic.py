"""Scheduler classes as Celery has them: the same lines run on Celery's module and on ours."""

from __future__ import annotations

import pickle
import shelve
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import celery
import celery.beat
import celery.schedules
import celery.signals
import pytest

import qcore.celery.app
import qcore.schedules
import qcore.signals
from qcore.beat import classic, classic_entry, classic_file, classic_scheduler
from qcore.errors import BrokerDown, ConfigError
from qcore.wire.task import read
from tests.qcore.celery.test_app_as_celery import waiting
from tests.support.waiting import wait_for

THEIRS = SimpleNamespace(
    name="celery",
    Celery=celery.Celery,
    Scheduler=celery.beat.Scheduler,
    PersistentScheduler=celery.beat.PersistentScheduler,
    Entry=celery.beat.ScheduleEntry,
    Lazy=celery.beat.BeatLazyFunc,
    SchedulingError=celery.beat.SchedulingError,
    Service=celery.beat.Service,
    Embedded=celery.beat.EmbeddedService,
    schedules=celery.schedules,
    signals=celery.signals,
)
OURS = SimpleNamespace(
    name="qcore",
    Celery=qcore.celery.app.Celery,
    Scheduler=classic_scheduler.Scheduler,
    PersistentScheduler=classic_file.PersistentScheduler,
    Entry=classic_entry.ScheduleEntry,
    Lazy=classic_entry.BeatLazyFunc,
    SchedulingError=classic_entry.SchedulingError,
    Service=classic.Service,
    Embedded=classic.EmbeddedService,
    schedules=qcore.schedules,
    signals=qcore.signals,
)
KITS = [OURS, THEIRS]
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(params=KITS, ids=lambda kit: kit.name)
def kit(request: pytest.FixtureRequest) -> Any:
    return request.param


def make_app(kit: Any, url: str, **settings: Any) -> Any:
    app = kit.Celery("project", broker=url, backend=url, set_as_current=False)
    app.conf.update(settings)
    return app


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time

    def go(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def recording(kit: Any, base: Any = None) -> Any:
    """A scheduler class that publishes nothing and notes what it would publish."""

    class Recording(base or kit.Scheduler):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.sent: list[Any] = []
            super().__init__(*args, **kwargs)

        producer = None

        def send_task(self, name: str, args: Any, kwargs: Any, **options: Any) -> Any:
            options.pop("producer", None)
            options.pop("task_id", None)
            self.sent.append((name, list(args), dict(kwargs), options))

    return Recording


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


class Line:
    """A schedule that is due at given seconds after the start, once each."""

    def __init__(self, clock: Clock, *seconds: float) -> None:
        self.clock, self.times = clock, [START + timedelta(seconds=s) for s in seconds]
        self.app: Any = None

    def now(self) -> datetime:
        return self.clock()

    def is_due(self, last_run_at: datetime) -> tuple[bool, float]:
        left = [t for t in self.times if t > last_run_at]
        if not left:
            return False, 1000.0
        if left[0] > self.clock():
            return False, (left[0] - self.clock()).total_seconds()
        later = [t for t in left if t > self.clock()]
        return True, (later[0] - self.clock()).total_seconds() if later else 1000.0


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
    assert found["database"].schedule == kit.schedules.crontab("0", "4")
    assert found["database"].options == {"expires": 43200}
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


# --- publish


def test_messages_have_the_header_of_beat(kit: Any, redis_url: str) -> None:
    app, clock = make_app(kit, redis_url), Clock()

    @app.task(name="t.known", queue="mine")
    def known(one: int) -> None: ...

    options = {"headers": {"own": 1}, "priority": 3, "expires": 60}
    app.conf.beat_schedule = {
        "known": {"task": "t.known", "schedule": Line(clock, 1), "args": (1,)},
        "unknown": {"task": "t.elsewhere", "schedule": Line(clock, 1, 2), "options": options},
    }
    scheduler = kit.Scheduler(app)
    clock.go(1)
    for _ in range(3):
        scheduler.tick()
    scheduler.close()

    (one,) = waiting(redis_url, "mine")
    (other,) = waiting(redis_url, "celery\x06\x163")
    assert (one["headers"]["task"], one["headers"]["celery_beat_task"]) == ("t.known", True)
    assert (other["headers"]["task"], other["headers"]["own"]) == ("t.elsewhere", 1)
    assert other["headers"]["celery_beat_task"] is True and other["headers"]["expires"]


def test_a_producer_that_is_given_publishes(kit: Any, redis_url: str) -> None:
    app, clock = make_app(kit, redis_url), Clock()
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": Line(clock, 1)}}
    used: list[str] = []

    class Own(app.amqp.Producer if isinstance(app.amqp.Producer, type) else __import__("kombu").Producer):  # type: ignore[misc]
        def publish(self, *args: Any, **kwargs: Any) -> Any:
            used.append(kwargs["headers"]["task"])
            return super().publish(*args, **kwargs)

    scheduler = kit.Scheduler(app, Producer=Own)
    clock.go(1)
    scheduler.tick()
    scheduler.close()

    assert used == ["t.a"]
    assert [m["headers"]["task"] for m in waiting(redis_url)] == ["t.a"]


def test_what_cannot_be_published_is_an_error_and_not_tried_again(
    kit: Any, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, clock = make_app(kit, redis_url), Clock()
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": Line(clock, 1), "args": (object(),)}}
    scheduler = kit.Scheduler(app)
    clock.go(1)

    assert scheduler.tick() == 0
    assert scheduler.tick() > 100

    assert scheduler.schedule["a"].total_run_count == 1
    assert "t.a" in caplog.text or "scheduled task a" in caplog.text
    with pytest.raises(kit.SchedulingError, match="scheduled task a"):
        scheduler.apply_async(scheduler.schedule["a"])
    assert scheduler.schedule["a"].total_run_count == 2


def test_the_brokers_that_kombu_does_not_reach_work_too(tmp_path: Path) -> None:
    clock = Clock()
    app = OURS.Celery("p", broker=f"sqlite:///{tmp_path / 'broker.db'}", set_as_current=False)
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": Line(clock, 1)}}
    scheduler = OURS.Scheduler(app)
    clock.go(1)

    scheduler.tick()

    assert len(app.broker.administration.peek("celery")) == 1
    scheduler.close()


def test_it_waits_for_a_broker_that_is_away_and_says_so_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, clock = make_app(OURS, redis_url, task_publish_retry=False), Clock()
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": Line(clock, 1)}}
    scheduler = OURS.Scheduler(app)
    clock.go(1)
    publish, ids = app.broker.publish, []

    def down(messages: Any) -> None:
        ids.extend(read(m.raw).id for m in messages)
        if len(ids) == 3:
            publish(messages)
        else:
            raise BrokerDown(redis_url, "pulled out")

    monkeypatch.setattr(app.broker, "publish", down)
    monkeypatch.setattr(classic_scheduler, "_FIRST_PAUSE_S", 0.01)

    scheduler.tick()

    assert len(waiting(redis_url)) == 1 and len(set(ids)) == 1
    assert caplog.text.count("pulled out") == 1 and caplog.text.count("the broker is back") == 1


def test_a_task_that_waits_for_the_broker_is_due_at_the_next_start(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(OURS, redis_url, task_publish_retry=False)
    app.set_default()
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": 60.0}}
    service = OURS.Service(app, schedule_filename=str(tmp_path / "file"))
    entry = service.scheduler.schedule["a"]
    entry.last_run_at = datetime.now(UTC) - timedelta(hours=1)
    tried = threading.Event()

    def down(messages: Any) -> None:
        tried.set()
        raise BrokerDown(redis_url, "pulled out")

    monkeypatch.setattr(app.broker, "publish", down)
    thread = threading.Thread(target=service.start)
    thread.start()
    assert tried.wait(60)
    service.stop(wait=True)
    thread.join(60)

    again = OURS.PersistentScheduler(app, schedule_filename=str(tmp_path / "file"))
    assert again.schedule["a"].total_run_count == 0 and again.schedule["a"].is_due()[0]
    again.close()


# --- the file


def test_the_file_keeps_the_state(kit: Any, redis_url: str, tmp_path: Path) -> None:
    app, place = make_app(kit, redis_url), str(tmp_path / "file")
    app.set_default()
    app.conf.beat_schedule = {name: {"task": "t.a", "schedule": 1000.0} for name in "ab"}
    scheduler = kit.PersistentScheduler(app, schedule_filename=place)
    last = next(scheduler.schedule["a"]).last_run_at
    scheduler.reserve(scheduler.schedule["a"])
    scheduler.close()

    app.conf.beat_schedule = {name: {"task": "t.new", "schedule": 1000.0} for name in "ac"}
    again = kit.PersistentScheduler(app, schedule_filename=place)

    assert sorted(again.schedule) == ["a", "c"]
    assert (again.schedule["a"].task, again.schedule["a"].total_run_count) == ("t.new", 1)
    assert again.schedule["a"].last_run_at >= last
    assert again.info == f"    . db -> {place}"
    again.close()


def test_another_time_zone_makes_the_file_new(kit: Any, redis_url: str, tmp_path: Path) -> None:
    place = str(tmp_path / "file")
    counts = []
    for zone in ("UTC", "UTC", "Europe/Berlin", "Europe/Berlin"):
        app = make_app(kit, redis_url, timezone=zone)
        app.set_default()
        app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": 1000.0}}
        scheduler = kit.PersistentScheduler(app, schedule_filename=place)
        counts.append(scheduler.schedule["a"].total_run_count)
        scheduler.reserve(scheduler.schedule["a"])
        scheduler.close()

    assert counts == [0, 1, 0, 1]


@pytest.mark.parametrize("content", [b"", b"no file of a shelf", b"\x00" * 4096])
def test_a_file_that_cannot_be_read_is_made_anew(
    content: bytes, kit: Any, redis_url: str, tmp_path: Path
) -> None:
    app, place = make_app(kit, redis_url), tmp_path / "file"
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": 1000.0}}
    place.write_bytes(content)

    scheduler = kit.PersistentScheduler(app, schedule_filename=str(place))

    assert list(scheduler.schedule) == ["a"]
    scheduler.close()


def test_entries_that_cannot_be_unpickled_are_made_anew(kit: Any, redis_url: str, tmp_path: Path) -> None:
    app, place = make_app(kit, redis_url), str(tmp_path / "file")
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": 1000.0}}
    with shelve.open(place) as shelf:
        shelf.update({"entries": {}, "tz": None, "utc_enabled": True, "__version__": "5"})
        shelf.dict[b"entries"] = b"no pickle"

    scheduler = kit.PersistentScheduler(app, schedule_filename=place)

    assert list(scheduler.schedule) == ["a"]
    scheduler.close()


# --- the service


@pytest.fixture
def started(kit: Any, redis_url: str) -> Iterator[Any]:
    """A service of a scheduler that notes its ticks, in a thread."""
    app = make_app(kit, redis_url)

    class Noting(kit.Scheduler):  # type: ignore[name-defined, misc]
        ticks, closed = 0, 0

        def tick(self, *args: Any, **kwargs: Any) -> float:
            type(self).ticks += 1
            return 0.01

        def close(self) -> None:
            type(self).closed += 1
            super().close()

    heard: list[Any] = []

    def hear(sender: Any, **kwargs: Any) -> None:
        heard.append(sender)

    kit.signals.beat_init.connect(hear)
    service = kit.Service(app, scheduler_cls=Noting, max_interval=1)
    thread = threading.Thread(target=service.start)
    thread.start()
    yield SimpleNamespace(service=service, kind=Noting, heard=heard)
    service.stop()
    thread.join(60)
    kit.signals.beat_init.disconnect(hear)


def test_a_service_ticks_until_it_is_stopped(started: Any) -> None:
    wait_for(lambda: started.kind.ticks > 3)

    started.service.stop(wait=True)

    assert started.heard == [started.service] and started.kind.closed == 1
    ticks = started.kind.ticks
    assert started.service._is_stopped.is_set() and started.kind.ticks == ticks


def test_stop_does_not_wait_for_the_next_look(redis_url: str) -> None:
    service = OURS.Service(make_app(OURS, redis_url), scheduler_cls=OURS.Scheduler, max_interval=100_000)
    thread = threading.Thread(target=service.start)
    thread.start()
    wait_for(lambda: service.scheduler._heap is not None)

    service.stop(wait=True)
    thread.join(60)

    assert not thread.is_alive()


def test_a_scheduler_class_has_a_dotted_name_or_an_entry_point(redis_url: str) -> None:
    app = make_app(OURS, redis_url)
    for name in ("qcore.beat.classic_scheduler:Scheduler", "qcore.beat.classic_scheduler.Scheduler"):
        assert type(OURS.Service(app, scheduler_cls=name).get_scheduler(lazy=True)) is OURS.Scheduler
    with pytest.raises(
        ConfigError, match=r"scheduler class 'no.where:Class' cannot be loaded.* or one of: django"
    ):
        OURS.Service(app, scheduler_cls="no.where:Class").get_scheduler()


def test_an_embedded_service_runs_in_a_thread_or_a_process(redis_url: str) -> None:
    app = make_app(OURS, redis_url)
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": 0.05}}
    for thread in (True, False):
        before = len(waiting(redis_url))
        embedded = OURS.Embedded(app, thread=thread, scheduler_cls=OURS.Scheduler)
        embedded.start()
        wait_for(lambda before=before: len(waiting(redis_url)) > before + 2)  # type: ignore[misc]
        embedded.stop()
        embedded.join(60)
        assert not embedded.is_alive()


def test_an_entry_with_a_field_that_nobody_knows_is_named(redis_url: str) -> None:
    app = make_app(OURS, redis_url)
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": 1.0, "scedule": 2}}

    with pytest.raises(ConfigError, match=r"the entry 'a' of the schedule cannot be made: .*scedule"):
        OURS.Scheduler(app)
