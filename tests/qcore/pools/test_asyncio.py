"""The asyncio pool: the pool suite, and what is its own: coroutines, limits, the watchdog."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.errors import TaskRevokedError, TimeLimitExceeded
from tests.contracts.pool_contract import ManySlots, PoolContract
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_for

COROS = "tests.projects.coros"


class TestAsyncio(PoolContract, ManySlots):
    kind = "asyncio"


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def app(url: str) -> Iterator[App]:
    made = App("outside", broker=url, set_as_current=False)
    yield made
    made.close()


@pytest.fixture
def worker(url: str, processes: Processes) -> Process:
    return processes.start_qcore_worker(url, "-P", "asyncio", app=COROS, name="a@test")


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_five_hundred_wait_at_once(redis_url: str, processes: Processes, tmp_path: Path) -> None:
    processes.start_qcore_worker(redis_url, "-P", "asyncio", "-c", "500", app=COROS)
    app = App("many", broker=redis_url, set_as_current=False)
    log, release = tmp_path / "log", tmp_path / "release"

    sent = [app.send_task("coros.hold", (str(log), str(i), str(release))) for i in range(500)]
    wait_for(lambda: len(lines(log)) == 500, what="all of them run at the same time")
    release.touch()

    assert [r.get(timeout=60) for r in sent] == [str(i) for i in range(500)]
    app.close()


def test_a_task_that_blocks_is_named(app: App, worker: Process) -> None:
    sent = app.send_task("coros.block", (2.0,))

    assert sent.get(timeout=60) == "blocked"
    worker.wait_output(rf"is blocked for .*coros\.block\[{sent.id}\].*time\.sleep\(seconds\)")
    worker.wait_output("is responsive again")


def test_control_answers_while_a_task_blocks(app: App, worker: Process) -> None:
    app.send_task("coros.block", (100.0,))
    wait_for(lambda: (app.control.inspect(timeout=50).active() or {}).get("a@test"), 50)

    assert app.control.ping(timeout=40)


def test_each_coroutine_has_its_own_request(app: App, worker: Process) -> None:
    sent = [app.send_task("coros.whoami", (0.2,)) for _ in range(20)]

    assert [r.get(timeout=60) for r in sent] == [[r.id, r.id] for r in sent]


def test_retries_failures_and_plain_functions(app: App, worker: Process) -> None:
    flaky, plain, boom = (app.send_task(f"coros.{n}", a) for n, a in FEW)

    assert flaky.get(timeout=60) == 2
    assert plain.get(timeout=60) == 3
    with pytest.raises(ValueError, match="boom"):
        boom.get(timeout=60)
    assert "await" not in (boom.traceback or "") and "raise ValueError" in (boom.traceback or "")


FEW: list[tuple[str, tuple[Any, ...]]] = [("flaky", ()), ("plain", (1, 2)), ("boom", ())]


def test_the_soft_limit_is_raised_inside(app: App, worker: Process) -> None:
    assert app.send_task("coros.patient", (20,)).get(timeout=60) == "stopped softly"
    assert app.send_task("coros.patient", (0.01,)).get(timeout=60) == "done"


def test_the_hard_limit_cancels(app: App, worker: Process) -> None:
    sent = app.send_task("coros.limited", (100,))

    with pytest.raises(TimeLimitExceeded):
        sent.get(timeout=60)


@pytest.mark.parametrize("name", ["coros.hold", "coros.plain_hold"])
def test_terminate_stops_one_and_not_its_neighbours(
    app: App, worker: Process, name: str, tmp_path: Path
) -> None:
    log, release = tmp_path / "log", tmp_path / "release"
    bad = app.send_task(name, (str(log), "bad", str(tmp_path / "never")))
    good = app.send_task(name, (str(log), "good", str(release)))
    wait_for(lambda: len(lines(log)) == 2)

    app.control.revoke(bad.id, terminate=True)

    with pytest.raises(TaskRevokedError):
        bad.get(timeout=60)
    release.touch()
    assert good.get(timeout=60) == "good"


def test_a_cold_stop_returns_what_ran(app: App, url: str, processes: Processes, tmp_path: Path) -> None:
    log = tmp_path / "log"
    worker = processes.start_qcore_worker(url, "-P", "asyncio", "-c", "3", app=COROS)
    for i in range(5):
        app.send_task("coros.log_start", (str(log), str(i), 100.0))
    wait_for(lambda: len(lines(log)) == 3)

    worker.term(signal.SIGQUIT)

    assert worker.wait(50) == 3
    assert app.broker.administration.depth("celery").ready == 5


def test_a_warm_stop_waits_for_what_runs(app: App, url: str, processes: Processes, tmp_path: Path) -> None:
    log, release = tmp_path / "log", tmp_path / "release"
    worker = processes.start_qcore_worker(url, "-P", "asyncio", "-c", "3", app=COROS)
    for i in range(5):
        app.send_task("coros.hold", (str(log), str(i), str(release)))
    wait_for(lambda: len(lines(log)) == 3)

    worker.term()
    wait_for(lambda: app.broker.administration.depth("celery").ready == 2, what="what has not begun is back")
    assert worker.is_running
    release.touch()

    assert worker.wait() == 0
    assert len(lines(log)) == 3
    left = app.broker.administration.depth("celery")
    assert (left.ready, left.in_flight) == (2, 0)


def test_without_c_there_are_a_hundred_slots(redis_url: str, processes: Processes) -> None:
    worker = processes.start_qcore_worker(redis_url, "-P", "asyncio", app=COROS)

    assert "100 (asyncio)" in worker.output()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_coroutines_run_in_other_pools(redis_url: str, processes: Processes, pool: str) -> None:
    processes.start_qcore_worker(redis_url, "-P", pool, "-c", "2", app=COROS)
    app = App("others", broker=redis_url, set_as_current=False)

    sent = [app.send_task("coros.whoami", (0.05,)) for _ in range(6)]

    assert [r.get(timeout=60) for r in sent] == [[r.id, r.id] for r in sent]
    assert app.send_task("coros.flaky").get(timeout=60) == 2
    assert app.send_task("coros.patient", (20,)).get(timeout=60) == "stopped softly"
    app.close()
