"""The eventlet pool passes the pool suite, in a process whose standard library is patched."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qcore import App
from qcore.errors import ConfigError, SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded
from qcore.pools import patch_for
from tests.contracts.pool_contract import Bench, ManySlots, PoolContract
from tests.support.processes import ROOT, Process, Processes
from tests.support.waiting import wait_for

if importlib.util.find_spec("eventlet") is None:  # its import alone changes how this process forks
    pytest.skip("eventlet is not installed", allow_module_level=True)

from qcore.pools.eventlet.patch import is_patched

START = (
    "from qcore.pools.eventlet.patch import patch; patch(); import sys, pytest; "
    "sys.exit(pytest.main(sys.argv[1:]))"
)


@pytest.mark.skipif(not is_patched(), reason="runs in the process that the next test starts")
class TestEventlet(PoolContract, ManySlots):
    kind = "eventlet"


def test_the_pool_passes_the_suite_in_a_patched_process() -> None:
    if is_patched():
        pytest.skip("this is that process")

    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", START, "-q", "-k", "TestEventlet", __file__],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]


def begin(kind: str, url: str, processes: Processes, to: Path, *words: str, **env: str) -> Process:
    """A worker of the project tests/projects/evented.py that writes to a file; it is ready."""
    env = {"EVENTED_BY": kind, "EVENTED_URL": url, "EVENTED_TO": str(to), **env}
    start = processes.qctl if kind == "qcore" else processes.celery
    worker = start("-A", "tests.projects.evented", "worker", "-P", "eventlet", *words, env=env)
    wait_for(lambda: to.exists() and "worker_ready" in to.read_text(), what=f"{kind} is ready")
    return worker


def test_a_worker_sends_the_pools_signals_as_celerys_does(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    found = {}
    for kind in ("celery", "qcore"):
        to, release = tmp_path / kind, tmp_path / f"{kind}.release"
        worker = begin(kind, redis_url, processes, to, "-c", "10", "-n", "w@test")
        client = App("client", broker=redis_url, set_as_current=False)

        assert client.send_task("evented.add", (1, 2)).get(timeout=60) == 3
        client.send_task("evented.hold", (str(release),))
        wait_for(lambda to=to: "holds" in to.read_text())
        worker.term()
        wait_for(lambda to=to: "eventlet_pool_preshutdown" in to.read_text(), what="it waits for the task")
        release.touch()

        assert worker.wait() == 0, worker.output()
        client.close()
        found[kind] = to.read_text().splitlines()
    assert found["qcore"] == found["celery"]


def test_tasks_wait_at_once_and_are_ended_where_they_wait(redis_url: str, processes: Processes) -> None:
    worker = processes.start_qcore_worker(redis_url, "-P", "eventlet", "-c", "200")
    app = App("greens", broker=redis_url, set_as_current=False)

    long = app.send_task("proj.nap", (60,))
    soft = app.send_task("proj.nap", (60,), soft_time_limit=0.3)
    hard = app.send_task("proj.nap", (60,), time_limit=0.5)
    short = [app.send_task("proj.nap", (0.1,)) for _ in range(150)]
    wait_for(lambda: long.id in str(app.control.inspect(timeout=60).active()))
    app.control.revoke(long.id, terminate=True)

    assert [result.get(timeout=60) for result in short] == [short[0].get(timeout=60)] * 150
    with pytest.raises(TaskRevokedError):
        long.get(timeout=60)
    with pytest.raises(SoftTimeLimitExceeded):
        soft.get(timeout=60)
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=60)
    worker.term()
    assert worker.wait() == 0, worker.output()
    app.close()


def test_a_task_that_does_not_let_others_run_is_found_if_asked_for(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    found = {}
    for kind in ("celery", "qcore"):
        worker = begin(kind, redis_url, processes, tmp_path / kind, "-c", "2", EVENTLET_NOBLOCK="0.3")
        client = App("client", broker=redis_url, set_as_current=False)

        error = client.send_task("evented.compute", (30,)).get(timeout=60, propagate=False)

        worker.kill9()
        client.close()
        found[kind] = type(error).__name__, str(error).partition(" at")[0]
    assert found["qcore"] == found["celery"] == ("RuntimeError", "Blocking detector ALARMED")


def test_without_eventlet_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "eventlet", None)

    with pytest.raises(ConfigError, match=r"pip install 'qctl\[eventlet\]'"):
        patch_for("eventlet")


def test_a_pool_in_a_process_that_is_not_patched_says_how_to_start_it() -> None:
    if is_patched():
        pytest.skip("this process is patched")

    with pytest.raises(ConfigError, match="qctl worker -P eventlet"):
        Bench("eventlet")
