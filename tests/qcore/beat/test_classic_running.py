"""Scheduler classes that publish, keep a file and run in a service: the same lines run on Celery and here."""

from __future__ import annotations

import os
import shelve
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kombu
import pytest

import qcore
from qcore.beat import classic_scheduler
from qcore.errors import BrokerDown, ConfigError
from qcore.wire.task import read
from tests.qcore.beat.kits import KITS, OURS, Clock, Line, make_app
from tests.qcore.celery.test_app_as_celery import waiting
from tests.support.processes import ROOT, Processes
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for


@pytest.fixture(params=KITS, ids=lambda kit: kit.name)
def kit(request: pytest.FixtureRequest) -> Any:
    return request.param


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

    class Own(kombu.Producer):
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


@pytest.mark.parametrize("app_class", [OURS.Celery, qcore.App])
def test_the_brokers_that_kombu_does_not_reach_work_too(app_class: Any, tmp_path: Path) -> None:
    clock = Clock()
    app = app_class("p", broker=f"sqlite:///{tmp_path / 'broker.db'}", set_as_current=False)
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": Line(clock, 1)}}
    scheduler = OURS.Scheduler(app)
    clock.go(1)

    scheduler.tick()

    assert len(app.broker.administration.peek("celery")) == 1
    scheduler.close()


def test_it_waits_for_a_broker_that_is_away_and_says_so_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, clock = make_app(OURS, redis_url), Clock()
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
    app = make_app(OURS, redis_url)
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


def test_an_embedded_service_runs_in_a_thread_or_a_process(redis_url: str, tmp_path: Path) -> None:
    app = make_app(OURS, redis_url)
    notes = tmp_path / "notes"

    def note(signal: Any, sender: Any, **kwargs: Any) -> None:
        with notes.open("a") as out:
            out.write(f"{signal.name} {type(sender).__name__}\n")

    for one in (OURS.signals.beat_init, OURS.signals.beat_embedded_init):
        one.connect(note)
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": 0.05}}
    for thread in (True, False):
        before = len(waiting(redis_url))
        embedded = OURS.Embedded(app, thread=thread, scheduler_cls=OURS.Scheduler)
        embedded.start()
        wait_for(lambda before=before: len(waiting(redis_url)) > before + 2)  # type: ignore[misc]
        embedded.stop()
        embedded.join(60)
        assert not embedded.is_alive()
    lines = notes.read_text().splitlines()
    assert lines == ["beat_init Service", "beat_init Service", "beat_embedded_init Service"]


def test_an_entry_with_a_field_that_nobody_knows_is_named(redis_url: str) -> None:
    app = make_app(OURS, redis_url)
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": 1.0, "scedule": 2}}

    with pytest.raises(ConfigError, match=r"the entry 'a' of the schedule cannot be made: .*scedule"):
        OURS.Scheduler(app)


# --- the shape of the schedulers of other packages


def test_a_scheduler_that_keeps_its_entries_elsewhere_and_ticks_by_itself(kit: Any, redis_url: str) -> None:
    app = make_app(kit, redis_url)
    app.conf.beat_schedule = {"declared": {"task": "t.declared", "schedule": 0.05, "args": [1]}}
    kept: dict[str, dict[str, Any]] = {}
    locks: list[str] = []

    class Entry(kit.Entry):  # type: ignore[name-defined, misc]
        def __init__(self, name: Any = None, task: Any = None, enabled: bool = True, **more: Any) -> None:
            super().__init__(name=name, task=task, **more)
            self.enabled = enabled

        def save(self) -> None:
            kept[self.name] = dict(self)

        def _next_instance(self, last_run_at: Any = None, only_time: bool = False) -> Any:
            entry = super()._next_instance(last_run_at=last_run_at)
            entry.save()
            return entry

        __next__ = next = _next_instance

        def is_due(self) -> Any:
            return self.schedule.is_due(self.last_run_at) if self.enabled else (False, 5.0)

    class Scheduler(kit.Scheduler):  # type: ignore[name-defined, misc]
        def __init__(self, app: Any, lock_key: str | None = None, **kwargs: Any) -> None:
            super().__init__(app, **kwargs)
            self.lock_key = lock_key or "lock"

        def setup_schedule(self) -> None:
            self.install_default_entries(self.app.conf.beat_schedule)
            self.update_from_dict(self.app.conf.beat_schedule)

        def update_from_dict(self, dict_: Any) -> None:
            for name, entry in dict_.items():
                made = self._maybe_entry(name, entry)
                if made.name not in self.schedule or self.schedule[made.name] != made:
                    made.save()

        def reserve(self, entry: Any) -> Any:
            return next(entry)

        @property
        def schedule(self) -> dict[str, Any]:
            return {name: self.Entry(**fields) for name, fields in kept.items()}

        def tick(self, min: Any = min, **kwargs: Any) -> float:
            pauses = [self.max_interval]
            for entry in self.schedule.values():
                due, pause = entry.is_due()
                if due:
                    self.apply_async(entry, producer=self.producer)
                pauses.append(pause)
            return float(min(pauses))

        def close(self) -> None:
            locks.append("released")
            super().close()

    Scheduler.Entry = Entry

    def lock(sender: Any, **kwargs: Any) -> None:
        locks.append(sender.scheduler.lock_key)

    kit.signals.beat_init.connect(lock)
    service = kit.Service(app, scheduler_cls=Scheduler, max_interval=0.2)
    thread = threading.Thread(target=service.start)
    thread.start()
    try:
        wait_for(lambda: len(waiting(redis_url)) > 2)
        off = {"name": "off", "task": "t.off", "schedule": 0.01, "enabled": False, "app": app}
        kept["off"] = dict(Entry(**off))
        kept["new"] = dict(Entry(**{**off, "name": "new", "task": "t.new", "enabled": True}))
        wait_for(lambda: "t.new" in [m["headers"]["task"] for m in waiting(redis_url)])
    finally:
        service.stop(wait=True)
        thread.join(60)
        kit.signals.beat_init.disconnect(lock)

    found = waiting(redis_url)
    assert {m["headers"]["task"] for m in found} == {"t.declared", "t.new"}
    assert all(m["headers"]["celery_beat_task"] for m in found)
    assert kept["declared"]["total_run_count"] == [m["headers"]["task"] for m in found].count("t.declared")
    assert locks == ["lock", "released"]


# --- processes

FILE = """
import sys
from celery import Celery
from celery.beat import PersistentScheduler
from celery.schedules import crontab
app = Celery("p", broker="memory://")
app.conf.update(timezone="Europe/Berlin", result_expires=None)
app.conf.beat_schedule = {
    "cron": {"task": "t.a", "schedule": crontab(minute="*/5", day_of_week="mon-fri")},
    "every": {"task": "t.b", "schedule": 30.0, "args": (1,), "options": {"queue": "q"}},
}
scheduler = PersistentScheduler(app=app, schedule_filename=sys.argv[1])
print(sorted((e.name, e.total_run_count, str(e.last_run_at)) for e in scheduler.schedule.values()))
for entry in list(scheduler.schedule.values()):
    scheduler.reserve(entry)
print(sorted((e.name, e.total_run_count, str(e.last_run_at)) for e in scheduler.schedule.values()))
scheduler.close()
"""


def test_the_file_goes_from_celery_to_here_and_back(tmp_path: Path) -> None:
    lines = []
    for before in ("", "from qcore.celery import install; install()\n") * 2:
        done = subprocess.run(
            [sys.executable, "-c", before + FILE, str(tmp_path / "file")],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        lines.append(done.stdout.splitlines())

    for (_, end), (start, _) in pairwise(lines):
        assert start == end
    assert "('cron', 4, " in lines[-1][1]


BEAT = """
import logging, sys
logging.basicConfig(level="INFO")
from qcore.celery import install; install()
from celery import Celery
from celery.beat import Service
app = Celery("p", broker=sys.argv[1])
app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": 0.1}}
Service(app, scheduler_cls="celery.beat:Scheduler").start()
"""


def test_it_outlives_a_redis_that_is_killed(processes: Processes) -> None:
    server = RedisServer(require_server())
    try:
        beat = processes.start(sys.executable, "-c", BEAT, server.url, imports="qctl")
        wait_for(lambda: len(waiting(server.url)) > 1)

        server.kill9()
        beat.wait_output("the tasks that are due wait for it")
        server.restart()
        beat.wait_output("the broker is back")
        wait_for(lambda: len(waiting(server.url)) > 1)

        server.kill9()
        wait_for(lambda: beat.output().count("the tasks that are due wait for it") == 2)
        beat.term(signal.SIGINT)
        assert beat.wait() == 0
    finally:
        server.stop()
