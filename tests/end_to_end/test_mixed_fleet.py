"""One Redis queue, workers of both kinds, a Celery producer, and qcore workers that are killed."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from qcore import App
from tests.faults.test_crashes import History
from tests.support.processes import Process, Processes, celery_env, run_python
from tests.support.waiting import wait_for

FULL = os.environ.get("QCORE_FAULTS") == "full"
TASKS, KILLS = (10_000, 20) if FULL else (1_200, 4)
LEASE_S = 1.0

PRODUCER = """
import sys
from tests.projects.celeryproj import app
path, count = sys.argv[1], int(sys.argv[2])
for i in range(count):
    app.send_task("proj.log_start", (path, str(i), 0.005), ignore_result=True)
"""


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


@pytest.mark.slow
@pytest.mark.timeout(900 if FULL else 120)
def test_nothing_is_lost_in_a_mixed_fleet(redis_url: str, processes: Processes, tmp_path: Path) -> None:
    log = tmp_path / "history"
    dice = random.Random(11)
    celery = processes.start_celery_worker(redis_url, redis_url, "-c", "1")
    env = {**os.environ, **celery_env(redis_url, redis_url)}
    sent = run_python("-c", PRODUCER, str(log), str(TASKS), env=env, imports="celery", timeout_s=300)
    assert sent.returncode == 0, sent.stderr

    def start() -> Process:
        return processes.start_qcore_worker(
            redis_url, "-c", "2", "-l", "WARNING", env={"QCTL_LEASE": str(LEASE_S)}
        )

    workers = [start(), start()]
    for _ in range(KILLS):
        time.sleep(dice.random() * 0.3)
        victim = dice.randrange(2)
        workers[victim].kill9()
        workers[victim] = start()
    wait_for(lambda: len(History(log).done) >= TASKS, 600 if FULL else 60, "every task done")

    history = History(log)
    assert len(history.done) == TASKS
    assert celery.is_running
    # Our mark that a message may have been started lies beside the message, byte for byte as it was;
    # Celery's worker does not look there, so only its own re-runs may be without a flag.
    runs: dict[str, list[tuple[bool, int]]] = {}
    for line in log.read_text().splitlines():
        if not line.startswith("done "):
            ident, flag, pid = line.split()
            runs.setdefault(ident, []).append((flag == "True", int(pid)))
    celerys = {pid for found in runs.values() for _, pid in found if _group(pid) == celery.pid}
    unflagged = [i for i, found in runs.items() if any(not f and p not in celerys for f, p in found[1:])]
    assert not unflagged
    assert any(pid in celerys for found in runs.values() for _, pid in found), "Celery had its share"
    print(f"{TASKS} tasks, {KILLS} kills: 0 lost, {history.reruns} re-runs")


@pytest.mark.timeout(90)
def test_a_long_task_of_ours_runs_once_beside_celerys_visibility_timeout(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    """Longer than the visibility timeout and than five leases, with others idle."""
    log = tmp_path / "history"
    app = App("long", broker=redis_url, set_as_current=False)
    env = {"QCTL_LEASE": str(LEASE_S)}
    first = processes.start_qcore_worker(redis_url, "-c", "1", env=env)
    app.send_task("proj.log_start", (str(log), "long", 5.5 * LEASE_S))
    wait_for(lambda: "long" in History(log).starts)

    processes.start_qcore_worker(redis_url, "-c", "1", env=env)
    processes.start_celery_worker(redis_url, redis_url, "-c", "1", app="tests.projects.hasty")
    wait_for(lambda: "long" in History(log).done, 60)
    time.sleep(1.5)

    assert History(log).starts["long"] == [False]
    assert first.is_running
    app.close()
