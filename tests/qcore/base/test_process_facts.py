"""Facts of processes, from /proc and, where there is none, from ps: both say the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcore import App
from qcore.base import process_facts
from qcore.base.process_facts import command_line, is_running, owner, resident_kib, started
from qcore.brokers.redis.busy_poll import BusyPoll
from qcore.errors import ConfigError
from qcore.wire.pulse import started_mark
from qcore.worker.process.pidfile import PidFile
from qctl.commands.multi.nodes import Node
from tests.support.waiting import wait_for

SOURCES = ["proc"] + (["ps"] if shutil.which("ps") else [])


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "ps":
        monkeypatch.setattr(process_facts, "PROC", "/nowhere")
    return str(request.param)


@pytest.fixture
def living() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "w1@host"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def dead() -> int:
    """The id of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def zombie() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", ""])
    wait_for(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    yield process.pid
    process.wait()


def test_a_process_that_runs(source: str, living: int) -> None:
    assert is_running(living)
    assert started(living) == started(living) != ""
    assert started_mark(living) > 0
    wait_for(lambda: "w1@host" in command_line(living))
    assert owner(living) == os.geteuid()
    assert resident_kib(living) > 100


def test_a_process_that_is_gone(source: str, dead: int) -> None:
    assert not is_running(dead)
    assert (started(dead), started_mark(dead), command_line(dead)) == (None, 0, "")
    assert (owner(dead), resident_kib(dead)) == (None, 0)


def test_a_process_that_nobody_has_fetched_does_not_run(source: str, zombie: int) -> None:
    assert not is_running(zombie)


@pytest.mark.parametrize("pid", [0, -1])
def test_what_is_no_process_id_does_not_run(source: str, pid: int) -> None:
    assert not is_running(pid)


def test_the_pid_file_of_a_living_worker_is_not_taken_over(source: str, living: int, tmp_path: Path) -> None:
    path = tmp_path / "w1.pid"
    path.write_text(f"{living}\n")

    with pytest.raises(ConfigError, match=f"a worker is running with pid {living}"), PidFile(str(path)):
        pass

    assert path.read_text() == f"{living}\n"


def test_the_pid_file_of_a_dead_worker_is_taken_over(source: str, dead: int, tmp_path: Path) -> None:
    path = tmp_path / "w1.pid"
    path.write_text(f"{dead}\n")

    with PidFile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"

    assert not path.exists()


@pytest.mark.parametrize(("name", "is_ours"), [("w1@host", True), ("w2@host", False)])
def test_multi_knows_its_workers(source: str, name: str, is_ours: bool, living: int, tmp_path: Path) -> None:
    path = tmp_path / "w1.pid"
    path.write_text(f"{living}\n")
    wait_for(lambda: "w1@host" in command_line(living))

    node = Node(name, [], str(path), "", "", {})

    assert node.pid() == (living if is_ours else None)


def test_without_processor_affinity_a_connection_is_made(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    app = App("mac", broker=redis_url, set_as_current=False)

    assert app.send_task("a.b").id
    assert BusyPoll() is not None
    app.close()
