"""The remote control of schedulers: the same lines on Celery's service, its counterpart here and ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import celery
import pytest
from celery.beat import BeatPidbox, beat_nodename

import qcore
from qcore.beat import answers
from qcore.beat.service import BeatService
from tests.qcore.beat.kits import KITS, OURS, Clock, Line, make_app
from tests.support.processes import Processes
from tests.support.waiting import wait_for

NODE = "celerybeat@a-host"
SCHEDULE = {"a": {"task": "t.a", "schedule": 3600.0}}


@contextmanager
def control_of(url: str) -> Iterator[Any]:
    with celery.Celery(broker=url, set_as_current=False) as app:
        yield app.control


@contextmanager
def running(service: Any, goes_on: threading.Event | None = None) -> Iterator[None]:
    """Ends all of it: what ends later takes the binding of the next one, which has the same name."""
    thread = threading.Thread(target=service.start, daemon=True)
    thread.start()
    try:
        yield
    finally:
        if goes_on is not None:
            goes_on.set()
        service.stop()
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize("kind", [*(kit.name for kit in KITS), "embedded"])
def test_a_scheduler_answers_ping_alone(kind: str, redis_url: str) -> None:
    kit = next((kit for kit in KITS if kit.name == kind), OURS)
    app = make_app(kit, redis_url, beat_schedule=SCHEDULE, beat_enable_remote_control=True)
    if kind == "embedded":
        service: Any = BeatService(app, hostname="a-host")
    else:
        service = kit.Service(app, max_interval=0.1, hostname="a-host", scheduler_cls=kit.Scheduler)

    with running(service), control_of(redis_url) as control:
        pong = wait_for(lambda: control.ping(timeout=0.5, limit=1), what="a reply")
        to_it = control.ping(destination=[NODE], timeout=10, limit=1)
        other = control.broadcast("active", reply=True, timeout=0.2)
        to_others = control.ping(destination=["w@a"], timeout=0.2)

    assert pong == to_it == [{NODE: {"ok": "pong"}}]
    assert not other and not to_others


@pytest.mark.parametrize("kit", KITS, ids=lambda kit: kit.name)
def test_a_scheduler_that_does_not_tick_is_silent(kit: Any, redis_url: str) -> None:
    app = make_app(kit, redis_url, beat_remote_control_max_tick_age=0.2)
    ticked, goes_on = threading.Event(), threading.Event()

    class Stuck(kit.Scheduler):  # type: ignore[misc,name-defined]
        def tick(self) -> float:
            ticked.set()
            goes_on.wait(60)
            return 0.01

    service = kit.Service(app, remote_control=True, hostname=NODE, scheduler_cls=Stuck)
    with running(service, goes_on), control_of(redis_url) as control:
        assert ticked.wait(30)
        is_stale, asked = service._pidbox.is_stale, list[bool]()
        wait_for(is_stale)
        service._pidbox.is_stale = lambda: asked.append(True) or is_stale()
        wait_for(lambda: not control.ping(timeout=0.1) and asked, what="a request without a reply")
        goes_on.set()
        wait_for(lambda: control.ping(timeout=0.5, limit=1), what="a reply after a tick")


@pytest.mark.parametrize("kit", KITS, ids=lambda kit: kit.name)
def test_without_the_setting_nothing_answers(kit: Any, redis_url: str) -> None:
    app, clock = make_app(kit, redis_url), Clock()
    app.conf.beat_schedule = {"a": {"task": "t.a", "schedule": Line(clock, 1)}}

    assert kit.Service(app).remote_control is False
    assert kit.Service(app, remote_control=True).remote_control is True
    app.conf.beat_enable_remote_control = True
    assert kit.Service(app).remote_control is True
    assert kit.Service(app, remote_control=False).remote_control is False


@pytest.mark.parametrize(
    ("interval", "own", "age"),
    [(None, None, None), (5.0, None, None), (5.0, 400.0, None), (5.0, 400.0, 7.0), (1.0, 1.0, 0.0)],
)
def test_the_longest_silence_is_celerys(
    interval: float | None, own: float | None, age: float | None, redis_url: str
) -> None:
    found = []
    for kit, made in zip(KITS, (answers.BeatPidbox, BeatPidbox), strict=True):
        service = kit.Service(make_app(kit, redis_url, beat_remote_control_max_tick_age=age), interval)
        service.effective_max_interval = own
        beat: Any = made(service)
        before = beat.tick_age(), beat.is_stale()
        service._last_tick = -1e6
        found.append((beat.max_tick_age, before, beat.is_stale()))

    assert found[0] == found[1]


@pytest.mark.parametrize("given", [None, "a", "b@c", "n.%h", "%n@%d", "x@%h"])
def test_the_name_of_the_node_is_celerys(given: str | None) -> None:
    assert answers.beat_nodename(given) == beat_nodename(given)


def test_a_scheduler_beside_a_worker_is_not_missed(redis_url: str, processes: Processes) -> None:
    worker = processes.start_qcore_worker(redis_url, "-c", "1", "-P", "solo", name="w@test")
    beat = processes.qctl(
        *("-A", "tests.projects.proj", "-b", redis_url, "beat", "--enable-remote-control", "-n", "b-host")
    )
    beat.wait_output("Ready")

    app = qcore.App("client", broker=redis_url, set_as_current=False)
    asked = app.control.ask("active", timeout_s=60)
    pinged = app.control.ask("ping", timeout_s=60)
    by_name = app.control.ask("ping", destination=["celerybeat@*"], timeout_s=60)
    app.close()

    assert (list(asked.replies), asked.silent) == (["w@test"], [])
    assert sorted(pinged.replies) == ["celerybeat@b-host", "w@test"]
    assert list(by_name.replies) == ["celerybeat@b-host"]
    assert worker.is_running
    beat.term()
    assert beat.wait() == 0
