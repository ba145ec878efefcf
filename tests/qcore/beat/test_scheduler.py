"""`qctl beat` and `qctl worker -B`: real schedulers, workers and brokers."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from qcore import App
from qcore.app.schedules import message_of
from qcore.beat.scheduler import Scheduler
from qcore.beat.service import BeatService
from qcore.brokers.contract.schedules import Firing
from qcore.schedules.classes import crontab
from qcore.wire import task as task_wire
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PROJECT = "tests.projects.scheduled"


@pytest.fixture(params=["redis", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/q.sqlite3"
    found: str = request.getfixturevalue("redis_url")
    return found


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def beat(processes: Processes, url: str, log: Path, *options: str, **env: str) -> Process:
    words = ("-A", PROJECT, "-b", url, "beat", "-l", "INFO", *options)
    one = processes.qctl(*words, env={"PERIODIC_PATH": str(log), **env})
    one.wait_output("Ready")
    return one


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def app_of(url: str) -> App:
    return App("reader", broker=url, set_as_current=False)


def test_a_project_is_published_and_a_change_takes_effect_while_it_runs(
    url: str, processes: Processes, log: Path
) -> None:
    scheduler = beat(processes, url, log)
    processes.start_qcore_worker(url, "-c", "1", app=PROJECT, env={"PERIODIC_PATH": str(log)})
    schedules = app_of(url).schedules

    wait_for(lambda: {"often often True", "lazily lazy True", "beat_init"} <= set(lines(log)))
    assert schedules.get("lazy").entry.spec["kind"] == "code"
    schedules.edit("often", args=["changed"])
    wait_for(lambda: "changed often True" in lines(log))
    schedules.pause("often")
    paused = schedules.get("often")
    wait_for(lambda: len([x for x in lines(log) if x.startswith("lazily")]) > 6)
    settled = schedules.get("often").state
    assert settled.runs - paused.state.runs <= 3  # within a second
    schedules.add("added", "periodic.write", "every 500ms", args=["added"])
    wait_for(lambda: "added added True" in lines(log))
    schedules.remove("added")

    scheduler.term()
    assert scheduler.wait() == 0
    assert schedules.store.schedulers() == []


def test_workers_publish_the_schedule_too(url: str, processes: Processes, log: Path) -> None:
    for _ in range(2):
        processes.start_qcore_worker(url, "-B", "-c", "1", app=PROJECT, env={"PERIODIC_PATH": str(log)})
    schedules = app_of(url).schedules

    wait_for(lambda: schedules.get("often").state.runs > 8)

    instants = [one.instant_us for one in schedules.history("often")]
    assert len(instants) == len(set(instants))
    sent = Counter(lines(log))
    assert (sent["beat_init"], sent["beat_embedded_init"]) == (2, 2)
    assert len(schedules.store.schedulers()) == 2


def test_a_slow_task_does_not_run_twice_at_a_time(url: str, processes: Processes, log: Path) -> None:
    app = app_of(url)
    for name, overlap in (("skips", "skip"), ("queues", "queue")):
        app.schedules.add(name, "periodic.slow", 0.5, args=[1.3], overlap=overlap, options={"queue": name})
    beat(processes, url, log)
    env = {"PERIODIC_PATH": str(log)}
    processes.start_qcore_worker(url, "-c", "4", "-Q", "skips", app=PROJECT, env=env)

    wait_for(lambda: app.schedules.get("skips").state.runs > 3)

    state = app.schedules.get("skips").state
    assert state.overlapped >= state.runs
    words = [one for one in lines(log) if one in ("begin", "end")]
    assert words == ["begin", "end"] * (len(words) // 2) + ["begin"] * (len(words) % 2)
    queued = app.schedules.get("queues").state
    assert (queued.runs, queued.overlapped) == (1, 0)  # nobody runs it, so it has not ended


def test_entries_survive_their_scheduler_and_missed_instants_follow_the_policy(
    url: str, processes: Processes, log: Path
) -> None:
    first = beat(processes, url, log)
    app = app_of(url)
    for name in ("once", "all", "skip"):
        app.schedules.add(name, "periodic.write", 0.25, args=[name], missed=name, options={"queue": name})
    wait_for(lambda: min(app.schedules.get(name).state.runs for name in ("once", "all", "skip")) > 1)
    first.kill9()
    before = {name: app.schedules.get(name).state for name in ("once", "all", "skip")}
    wait_for(lambda: time.time() * 1e6 - before["all"].cursor_us > 3e6)

    beat(processes, url, log)
    wait_for(
        lambda: all(app.schedules.get(name).state.cursor_us > time.time() * 1e6 - 1e6 for name in before)
    )

    after = {name: app.schedules.get(name).state for name in before}
    passed = {name: (after[name].cursor_us - before[name].cursor_us) // 250_000 for name in before}
    for name, state in after.items():
        sent, missed = state.runs - before[name].runs, state.missed - before[name].missed
        assert sent + missed == passed[name], name
        assert (missed == 0) == (name == "all")


def test_the_schedule_of_rabbitmq_is_kept_elsewhere(
    rabbit_url: str, redis_url: str, processes: Processes, log: Path
) -> None:
    refused = processes.qctl("-A", PROJECT, "-b", rabbit_url, "beat", env={"PERIODIC_PATH": str(log)})
    assert refused.wait() == 78
    assert "schedule_store" in refused.output() and "Traceback" not in refused.output()

    for _ in range(2):
        beat(processes, rabbit_url, log, QCTL_SCHEDULE_STORE=redis_url)
    env = {"PERIODIC_PATH": str(log)}
    processes.start_qcore_worker(rabbit_url, "-c", "1", app=PROJECT, backend=redis_url, env=env)

    wait_for(lambda: lines(log).count("often often True") > 15)
    app = App("reader", broker=rabbit_url, schedule_store=redis_url, set_as_current=False)
    task_id = app.schedules.run("rarely").id
    wait_for(lambda: "rarely rarely True" in lines(log))
    assert app.schedules.history("rarely")[0].task_id == task_id
    state = app.schedules.get("often").state
    assert lines(log).count("often often True") <= state.runs + 1
    wait_for(lambda: app.schedules.store.outbox() == [])


def test_an_entry_that_cannot_be_sent_stops_no_other(redis_url: str, processes: Processes, log: Path) -> None:
    app = app_of(redis_url)
    app.schedules.add("nowhere", "periodic.write", 0.5, options={"exchange": "nobody", "routing_key": "x"})
    app.schedules.add("odd", "periodic.write", 0.5, options={"delivery_mode": "by pigeon"})
    app.schedules.store.edit("broken", json.dumps({"name": "broken", "task": "t", "spec": {}}).encode())

    scheduler = beat(processes, redis_url, log)
    wait_for(lambda: app.schedules.get("often").state.runs > 3)

    for name in ("nowhere", "odd", "broken"):
        scheduler.wait_output(f"'{name}'")
    assert app.schedules.get("odd").state.missed > 1
    assert app.schedules.get("nowhere").state.missed > 1


def test_messages_carry_what_monitors_look_for(url: str, processes: Processes, log: Path) -> None:
    beat(processes, url, log)
    app = app_of(url)
    wait_for(lambda: app.broker.administration.depth("celery").ready > 0)

    headers = task_wire.read(app.broker.administration.peek("celery")[0]).headers

    assert headers["celery_beat_task"] is True
    assert headers["periodic_task_name"] in ("often", "lazy")
    assert headers["qcore_scheduled_for"].endswith("+00:00")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"task": "t", "schedul": 3}, "did you mean schedule?"),
        ({"task": "t"}, "has no schedule"),
        ({"schedule": 3}, "the keys task and schedule"),
        ({"task": "t", "schedule": 3, "missed": "never"}, "once, skip, all"),
        ({"task": "t", "schedule": "soon"}, "no schedule"),
        ({"task": "t", "schedule": 3, "options": {"queue": object}}, "option queue"),
        ({"task": "t", "schedule": 3, "timezone": "Mars"}, "Mars"),
    ],
)
def test_a_wrong_entry_is_one_sentence(entry: dict[str, object], said: str) -> None:
    from qcore.app.schedule_entries import declared
    from qcore.errors import ConfigError

    app = App("one", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = {"e": entry}

    with pytest.raises(ConfigError, match=f".*{said}"):
        declared(app)


def test_a_call_declares_an_entry_with_its_policies() -> None:
    app = App("one", broker="memory://", set_as_current=False)

    @app.task(name="t")
    def task(x: int) -> None: ...

    app.add_periodic_task(10, task.s(1), name="e", overlap="skip", jitter=3, queue="slow")

    from qcore.app.schedule_entries import declared

    entry = declared(app)["e"].entry
    assert (entry.args, entry.overlap, entry.jitter_s, entry.options) == ([1], "skip", 3.0, {"queue": "slow"})
    with pytest.raises(TypeError, match="overlp"):
        app.add_periodic_task(10, task.s(1), overlp="skip")


def test_the_old_results_are_deleted_daily_where_they_do_not_expire(tmp_path: Path) -> None:
    from qcore.app.schedule_entries import declared

    def entry(backend: str, **settings: object) -> object:
        app = App("one", broker="memory://", backend=backend, set_as_current=False)
        app.conf.update(settings)
        found = declared(app).get("celery.backend_cleanup")
        return found and (found.entry.task, found.entry.spec["hour"], found.entry.options)

    daily = ("celery.backend_cleanup", "4", {"expires": 43200})
    files = tmp_path.as_uri()
    own = {"celery.backend_cleanup": {"task": "mine", "schedule": crontab("1", "2")}}

    assert entry(files) == entry("disabled://") == daily
    assert entry("") is None and entry(files, result_expires=None) is None
    assert entry(files, beat_schedule=own) == ("mine", "2", {})


def test_a_worker_with_a_wrong_entry_does_not_start(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(
        "from qcore import App\napp = App('wrong', broker='memory://')\n"
        "app.conf.beat_schedule = {'e': {'task': 't', 'schedul': 3}}\n"
    )

    for words in (("worker", "-B", "-P", "solo"), ("beat",)):
        one = processes.qctl("--workdir", str(tmp_path), "-A", "wrong", *words)
        assert one.wait() == 78
        assert "did you mean schedule?" in one.output() and "Traceback" not in one.output()


def test_an_entry_that_is_deleted_between_two_looks_is_given_up() -> None:
    app = App("one", broker="memory://deleted", set_as_current=False)
    app.schedules.add("gone", "t", 0.01)
    app.schedules.add("stays", "t", 0.01)
    scheduler = Scheduler(app)
    wait_for(lambda: scheduler._turn() is not None and app.schedules.get("gone").state.runs > 2)

    app.schedules.remove("gone")
    runs = app.schedules.get("stays").state.runs
    wait_for(lambda: scheduler._turn() is not None and app.schedules.get("stays").state.runs > runs + 3)

    app.schedules.add("gone", "t", 0.01)
    wait_for(lambda: scheduler._turn() is not None and app.schedules.get("gone").state.runs > 2)
    app.close()


def test_what_a_scheduler_left_in_the_outbox_is_published_by_one_of_the_others(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcore.beat.scheduler.ORPHANED_S", 0.2)
    monkeypatch.setattr("qcore.beat.scheduler.LOOK_S", 0.02)
    store = f"sqlite:///{tmp_path}/schedule.sqlite3"
    apps = [App("one", broker=redis_url, schedule_store=store, set_as_current=False) for _ in range(2)]
    schedules = apps[0].schedules
    schedules.add("e", "t", 3600)
    schedulers = [Scheduler(app, f"beat{n}") for n, app in enumerate(apps)]
    for one in schedulers:
        one._turn()
    task_id, messages = message_of(apps[0], schedules.get("e").entry, 1)
    cursor_us = schedules.get("e").state.cursor_us  # the instant after it is far away
    firing = Firing("e", cursor_us, cursor_us + 3_600_000_000, tuple(messages), runs=1, task_id=task_id)
    assert schedules.store.fire([firing]) == [None]

    def turn() -> bool:
        for one in schedulers:
            one._turn()
        return not schedules.store.outbox()

    wait_for(turn)
    turn()

    assert apps[0].broker.administration.depth("celery").ready == 1
    for app in apps:
        app.close()


def test_the_scheduler_of_a_worker_begins_again_after_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("qcore.beat.service.AGAIN_S", 0.01)
    app = App("again", broker="memory://again", set_as_current=False)
    app.conf.beat_schedule = {"often": {"task": "t", "schedule": 0.05}}
    service = BeatService(app)
    service.start()
    wait_for(lambda: app.schedules.get("often").state.runs > 1)

    with monkeypatch.context() as broken:
        broken.setattr(type(app.schedules.store), "clock", lambda _: 1 // 0)
        wait_for(lambda: "the scheduler begins again" in caplog.text)
    runs = app.schedules.get("often").state.runs
    wait_for(lambda: app.schedules.get("often").state.runs > runs + 1)
    service.stop()

    assert service.failed is None
    app.close()
