"""Processes of the prefork pool that are fresh interpreters, in Celery and here."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import msgspec
import pytest

from qcore import App
from qcore.errors import ConfigError, TimeLimitExceeded, WorkerLostError
from qcore.pools.prefork.spawned import NO_SLOT, PLACE, Place, is_spawned, memory_file
from tests.support.processes import Process, Processes

PROJECT = ("-A", "tests.projects.spawned", "worker", "-c", "1", "-n", "w@test")


def begin(kind: str, url: str, processes: Processes, *words: str, method: str = "") -> Process:
    env = {"SPAWNED_BY": kind, "SPAWNED_URL": url, "SPAWNED_METHOD": method}
    return (processes.qctl if kind == "qcore" else processes.celery)(*PROJECT, *words, env=env)


@pytest.mark.parametrize(
    ("method", "expected"),
    [("fork", [False, True, None]), ("spawn", [True, True, "1"])],
    ids=["fork", "spawn"],
)
def test_a_process_is_a_fresh_interpreter_if_it_is_spawned(
    redis_url: str, processes: Processes, method: str, expected: list[object]
) -> None:
    found = {}
    for kind in ("celery", "qcore"):
        worker = begin(kind, redis_url, processes, "--pool-start-method", method)
        client = App("client", broker=redis_url, set_as_current=False)

        found[kind] = client.send_task("spawned.about").get(timeout=60)

        worker.term()
        assert worker.wait() == 0, worker.output()
        client.close()
    assert found["qcore"] == found["celery"] == expected


SCRIPT = """
from tests.projects.spawned import app

if __name__ == "__main__":
    START
"""
STARTS = {
    "worker_main": 'app.worker_main(["worker", "-P", "prefork", "-c", "1", "-n", "w@test"])',
    "Worker": 'app.Worker(hostname="w@test", concurrency=1).start()',
}


@pytest.mark.parametrize("start", STARTS)
def test_processes_are_spawned_for_a_worker_of_a_script(
    start: str, redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "run.py").write_text(SCRIPT.replace("START", STARTS[start]))
    client, found = App("client", broker=redis_url, set_as_current=False), {}

    env = {"SPAWNED_BY": "celery", "SPAWNED_URL": redis_url, "SPAWNED_METHOD": "spawn"}
    for kind, before in (("celery", ()), ("qcore", ("-m", "qcore.celery"))):
        worker = processes.start(sys.executable, *before, str(tmp_path / "run.py"), env=env)
        found[kind] = client.send_task("spawned.about").get(timeout=60)
        worker.term()
        assert worker.wait() == 0, worker.output()

    assert found["qcore"] == found["celery"] == [True, True, "1"]
    client.close()


def test_another_fork_server_is_started_for_a_worker_of_a_script(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "run.py").write_text(SCRIPT.replace("START", STARTS["worker_main"]))
    env = {"SPAWNED_BY": "qcore", "SPAWNED_URL": redis_url}
    client = App("client", broker=redis_url, set_as_current=False)
    worker = processes.start(sys.executable, str(tmp_path / "run.py"), env=env)
    client.send_task("spawned.about").get(timeout=60)
    template = next(iter(client.control.inspect(timeout=60).stats().values()))["pool"]["template"]

    os.kill(template, signal.SIGKILL)

    assert client.send_task("spawned.about").get(timeout=60) == [False, True, None]
    worker.term()
    assert worker.wait() == 0, worker.output()
    client.close()


def test_another_method_is_an_error(redis_url: str, processes: Processes) -> None:
    for kind in ("celery", "qcore"):
        worker = begin(kind, redis_url, processes, method="forkserver")

        assert worker.wait() != 0
        assert "worker_pool_start_method must be 'fork' or 'spawn'" in worker.output()


def test_spawned_processes_are_killed_and_replaced(redis_url: str, processes: Processes) -> None:
    worker = begin("qcore", redis_url, processes, "--max-tasks-per-child", "2", method="spawn")
    app = App("client", broker=redis_url, set_as_current=False)

    fresh = [app.send_task("spawned.about") for _ in range(3)]
    late = app.send_task("spawned.nap", (60,), time_limit=0.3)
    lost = app.send_task("spawned.leave")

    assert [result.get(timeout=60) for result in fresh] == [[True, True, "1"]] * 3
    with pytest.raises(TimeLimitExceeded):
        late.get(timeout=60)
    with pytest.raises(WorkerLostError):
        lost.get(timeout=60)
    assert app.send_task("spawned.about").get(timeout=60) == [True, True, "1"]
    worker.term()
    assert worker.wait() == 0, worker.output()
    app.close()


def test_the_working_directory_of_the_worker_is_that_of_its_processes(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "placed.py").write_text(
        "import os\nfrom qcore import App\napp = App('placed')\n@app.task\ndef where(): return os.getcwd()\n"
    )
    program = f'cd "{tmp_path}"; exec "$@"'
    words = ("-A", "placed", "--workdir", "inner", "-b", redis_url, "worker", "-c", "1")
    command = (sys.executable, "-m", "qctl", *words, "--pool-start-method", "spawn")
    worker = processes.start("/bin/sh", "-c", program, "sh", *command)
    app = App("client", broker=redis_url, set_as_current=False)

    assert app.send_task("placed.where").get(timeout=60) == str(tmp_path / "inner")

    worker.term()
    assert worker.wait() == 0, worker.output()
    app.close()


def test_a_worker_without_a_command_line_cannot_spawn() -> None:
    app = App("t", broker="memory://", set_as_current=False)

    with pytest.raises(ConfigError, match="qctl -A APP worker"):
        app.worker(pool_start_method="spawn")


def test_a_place_is_known_by_its_descriptors_also_when_the_worker_has_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = socket.socketpair()
    place = Place(2**22 + 1, "w@test", NO_SLOT, memory_file(), [theirs.fileno()])
    monkeypatch.setenv(PLACE, msgspec.json.encode(place).decode())

    assert is_spawned()
    theirs.close()  # as in a program that it starts
    assert not is_spawned()
    ours.close()
    os.close(place.memory)
