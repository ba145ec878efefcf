"""The gevent pool passes the pool suite, in a process whose standard library is patched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from tests.contracts.pool_contract import ManySlots, PoolContract
from tests.support.processes import ROOT, Processes
from tests.support.waiting import wait_for

pytest.importorskip("gevent")

from qcore.pools.gevent.patch import is_patched

START = (
    "from qcore.pools.gevent.patch import patch; patch(); import sys, pytest; "
    "sys.exit(pytest.main(sys.argv[1:]))"
)


@pytest.mark.skipif(not is_patched(), reason="runs in the process that the next test starts")
class TestGevent(PoolContract, ManySlots):
    kind = "gevent"


def test_the_pool_passes_the_suite_in_a_patched_process() -> None:
    if is_patched():
        pytest.skip("this is that process")

    ran = subprocess.run(
        [sys.executable, "-c", START, "-q", "-k", "TestGevent", __file__],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]


@pytest.fixture
def worker(redis_url: str, processes: Processes) -> Any:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return processes.start_qcore_worker(redis_url, "-P", "gevent", "-c", "600", env={"PYTHONPATH": path})


def test_five_hundred_tasks_sleep_at_once(redis_url: str, worker: Any, tmp_path: Path) -> None:
    app = App("greens", broker=redis_url, set_as_current=False)
    log, release = tmp_path / "log", tmp_path / "release"

    results = [app.send_task("proj.hold", (str(log), str(i), str(release))) for i in range(500)]
    wait_for(
        lambda: log.exists() and log.read_text().count("started") == 500,
        what="all of them run at the same time",
    )
    release.touch()

    assert [result.get(timeout=60) for result in results] == [str(i) for i in range(500)]
    worker.term()
    assert worker.wait() == 0
    app.close()


def test_terminate_and_limits_end_a_greenlet(redis_url: str, worker: Any) -> None:
    from qcore.errors import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded

    app = App("greens", broker=redis_url, set_as_current=False)
    long = app.send_task("proj.nap", (60,))
    soft = app.send_task("proj.nap", (60,), soft_time_limit=0.3)
    hard = app.send_task("proj.nap", (60,), time_limit=0.5)
    wait_for(lambda: long.id in str(app.control.inspect(timeout=60).active()))

    app.control.revoke(long.id, terminate=True)

    with pytest.raises(TaskRevokedError):
        long.get(timeout=60)
    with pytest.raises(SoftTimeLimitExceeded):
        soft.get(timeout=60)
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=60)
    app.close()


def test_a_greenlet_that_computes_does_not_hold_up_the_worker(redis_url: str, worker: Any) -> None:
    app = App("greens", broker=redis_url, set_as_current=False)
    for seconds in (2.0, 10.0, 30.0):  # on a busy machine the shorter ones may end before the last answer
        computing = app.send_task("proj.compute", (seconds,))
        wait_for(lambda one=computing: one.id in str(app.control.inspect(timeout=60).active()) or one.ready())
        answers = [app.control.inspect(timeout=60).ping() for _ in range(5)]
        answered_first = not computing.ready()
        assert computing.get(timeout=60) == "computed"
        if answered_first:
            break

    assert all(answers)
    assert answered_first, "the answers came after the task"
    app.close()


CALLING = """
import time
from qcore import App
app = App("calling")

@app.task(name="calling.add")
def add(x):
    return x

@app.task(name="calling.asks")
def asks(x):
    time.sleep(0.01)  # so that many of them call at the same time
    return add.delay(x).get(disable_sync_subtasks=False, timeout=60)
"""


@pytest.mark.parametrize("kind", ["redis", "rabbit"])
@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_greenlets_publish_and_wait_for_results(
    kind: str, pool: str, request: pytest.FixtureRequest, processes: Processes, tmp_path: Path
) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    (tmp_path / "calling.py").write_text(CALLING)
    env = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    backend = "rpc://" if kind == "rabbit" else url
    processes.start_qcore_worker(url, "-P", pool, "-c", "50", app="calling", env=env, backend=backend)
    app = App("client", broker=url, backend=backend, set_as_current=False)

    results = [app.send_task("calling.asks", (i,)) for i in range(20)]

    assert [result.get(timeout=60) for result in results] == list(range(20))
    app.close()
