"""The SQLite file is removed, or another one is put there, while workers and clients have it open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qcore import App
from tests.support.processes import Processes
from tests.support.waiting import wait_for


def remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        Path(f"{path}{ending}").unlink(missing_ok=True)


def replace(path: Path) -> None:
    """Another file, in which a task waits."""
    other = path.with_name("other.db")
    app = App("other", broker=f"sqlite:////{other}", set_as_current=False)
    app.send_task("proj.add", (40, 2), task_id="waiting")
    app.close()
    remove(path)
    os.replace(other, path)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_workers_and_clients_go_on_with_the_file_that_is_there(
    how: str, tmp_path: Path, processes: Processes
) -> None:
    path = tmp_path / "broker.db"
    url = f"sqlite:////{path}"
    app = App("client", broker=url, set_as_current=False)
    worker = processes.start_qcore_worker(url, "-c", "1", name="w1@test")
    assert app.send_task("proj.add", (1, 2)).get(timeout=10) == 3

    (remove if how == "removed" else replace)(path)

    assert app.send_task("proj.add", (3, 4)).get(timeout=10) == 7
    worker.wait_output("was removed or replaced while it was in use")
    if how == "replaced":
        assert app.AsyncResult("waiting").get(timeout=10) == 42
    wait_for(lambda: app.control.inspect(timeout=1).ping() == {"w1@test": {"ok": "pong"}})
    fresh = App("fresh", broker=url, set_as_current=False)
    assert fresh.send_task("proj.add", (5, 6)).get(timeout=10) == 11
    assert fresh.broker.administration.depth("celery").in_flight == 0
    assert worker.output().count("while it was in use") == 1
    worker.term()
    assert worker.wait() == 0
    app.close()
    fresh.close()


def test_a_worker_that_runs_a_task_meanwhile_goes_on(tmp_path: Path, processes: Processes) -> None:
    path, log = tmp_path / "broker.db", tmp_path / "log"
    url = f"sqlite:////{path}"
    app = App("client", broker=url, set_as_current=False)
    worker = processes.start_qcore_worker(url, "-c", "1")
    app.send_task("proj.log_start", (str(log), "a", 1.0))
    wait_for(log.exists)

    remove(path)
    wait_for(lambda: "done a" in log.read_text())

    worker.wait_output(r"1 outcome\(s\) were refused")
    assert app.send_task("proj.add", (3, 4)).get(timeout=10) == 7
    app.close()
