"""A worker and a scheduler report to systemd over NOTIFY_SOCKET: ready, alive, stopping."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from qcore.base.service_manager import ServiceManager
from tests.support.processes import Processes


@pytest.fixture
def manager() -> tuple[str, Callable[[str], list[str]]]:
    """A socket as systemd has it: its name for NOTIFY_SOCKET, and what was sent until a text."""
    name = f"qctl-test-{uuid.uuid4().hex}"
    there = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    there.bind(f"\0{name}")
    there.settimeout(60)

    def until(text: str) -> list[str]:
        found: list[str] = []
        while not any(text in one for one in found):
            found.append(there.recv(4096).decode())
        return found

    return f"@{name}", until


def test_a_worker_is_ready_alive_and_stopping(
    sqlite_url: str, processes: Processes, manager: tuple[str, Callable[[str], list[str]]]
) -> None:
    place, until = manager
    env = {"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "400000"}
    worker = processes.start_qcore_worker(sqlite_url, "-c", "1", ready=False, env=env)

    first = until("READY=1")
    lives = until("WATCHDOG=1") + until("WATCHDOG=1") + until("WATCHDOG=1")
    worker.term()
    last = until("STOPPING=1")

    assert first == ["READY=1\nSTATUS=ready for tasks"]
    assert set(lives) == {"WATCHDOG=1"}
    assert last[-1] == "STOPPING=1\nSTATUS=running tasks finish"
    assert worker.wait() == 0


def test_a_scheduler_is_ready_alive_and_stopping(
    sqlite_url: str, processes: Processes, manager: tuple[str, Callable[[str], list[str]]]
) -> None:
    place, until = manager
    env = {"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "400000"}
    beat = processes.qctl("-A", "tests.projects.scheduled", "-b", sqlite_url, "beat", env=env)

    first = until("READY=1")
    lives = until("WATCHDOG=1")
    beat.term()
    last = until("STOPPING=1")

    assert first[0].startswith("READY=1\nSTATUS=qcore scheduler, ")
    assert lives[-1] == "WATCHDOG=1" and last[-1].startswith("STOPPING=1\n")
    assert beat.wait() == 0


def test_a_solo_worker_under_a_watchdog_warns_once(
    sqlite_url: str, processes: Processes, manager: tuple[str, Callable[[str], list[str]]]
) -> None:
    env = {"NOTIFY_SOCKET": manager[0], "WATCHDOG_USEC": "60000000"}
    worker = processes.start_qcore_worker(sqlite_url, "-P", "solo", env=env)

    words = "the watchdog of systemd ends this worker when a task runs for 60 s: the solo pool"
    assert worker.output().count(words) == 1


def test_without_a_manager_nothing_is_sent_and_one_that_is_gone_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nobody = ServiceManager({})
    nobody.ready("ready")
    nobody.alive()
    nobody.stopping("stops")
    silent = len(caplog.records)
    gone = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1000000"})
    gone.ready("ready")
    gone.alive()

    assert silent == 0
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == [
        "the service manager at NOTIFY_SOCKET cannot be reached"
    ]
    assert ServiceManager({"NOTIFY_SOCKET": "x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}).every_s > 1e9
