"""celery.contrib.rdb: pdb over a socket, in a task of a real worker."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qcore import App, AsyncResult
from tests.support.processes import Process, Processes
from tests.support.redis_server import free_port
from tests.support.waiting import wait_for


@contextmanager
def session(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        yield client


def until(client: socket.socket, end: bytes) -> str:
    """What it sends, up to `end`, or to its end."""
    found = b""
    while not found.endswith(end) and (data := client.recv(4_096)):
        found += data
    return found.decode()


def waits(url: str, processes: Processes, **env: str) -> tuple[AsyncResult[int], Process, int]:
    """A task at its breakpoint: its result, its worker, and the port of its debugger."""
    env = {"CELERY_RDB_PORT": str(free_port()), **env}
    worker = processes.start_qcore_worker(url, "-c", "1", app="tests.projects.debugged", env=env)
    result = App("client", broker=url, set_as_current=False).send_task("debugged.add", (1, 2))
    port = int(worker.wait_output(r"Ready to connect: telnet 127\.0\.0\.1 (\d+)")[1])
    return result, worker, port


def test_a_task_is_debugged_by_who_has_the_token(redis_url: str, processes: Processes) -> None:
    result, worker, port = waits(redis_url, processes)
    token = worker.wait_output(r"The first line must be the token (\S+)")[1]

    with session(port) as client:
        client.sendall(b"p 6 * 7\n")
        refused = until(client, b"(Pdb) ")
    with session(port) as client:
        client.sendall(f"{token}\n".encode())
        first = until(client, b"(Pdb) ")
        if "-> rdb.set_trace()" in first:  # from Python 3.13 on, it stops there
            client.sendall(b"n\n")
            first = until(client, b"(Pdb) ")
        client.sendall(b"p x, y, total\n")
        shown = until(client, b"(Pdb) ")
        client.sendall(b"!total = 40\n")
        until(client, b"(Pdb) ")
        client.sendall(b"c\n")

    assert "42" not in refused and "(Pdb)" not in refused
    assert "return total" in first
    assert "(1, 2, 3)" in shown
    assert result.get(timeout=60) == 40
    worker.wait_output(r"Session with 127\.0\.0\.1:\d+ ended")


def test_a_client_that_leaves_lets_the_task_go_on(redis_url: str, processes: Processes) -> None:
    result, worker, port = waits(redis_url, processes, CELERY_RDB_TOKEN="chosen")
    assert "chosen" not in re.sub("CELERY_RDB_TOKEN", "", worker.output())

    with session(port) as client:
        client.sendall(b"chosen\n")
        until(client, b"(Pdb) ")

    assert result.get(timeout=60) == 3


def test_an_empty_token_asks_for_none_as_in_celery(redis_url: str, processes: Processes) -> None:
    result, _, port = waits(redis_url, processes, CELERY_RDB_TOKEN="")

    with session(port) as client:
        prompt = until(client, b"(Pdb) ")
        client.sendall(b"exit\n")

    assert prompt.endswith("(Pdb) ") and "token" not in prompt
    assert result.get(timeout=60) == 3


def test_ports_that_are_taken_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from qcore.celery.rdb import Rdb

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(OSError, match="set CELERY_RDB_PORT to a free one"):
            Rdb(port=port, port_search_limit=1)


def test_a_signal_opens_the_debugger(redis_url: str, processes: Processes, tmp_path: Path) -> None:
    env = {"CELERY_RDBSIG": "1", "CELERY_RDB_PORT": str(free_port()), "CELERY_RDB_TOKEN": ""}
    worker = processes.start_qcore_worker(redis_url, "-c", "1", env=env)
    app = App("client", broker=redis_url, set_as_current=False)
    log, release = tmp_path / "log", tmp_path / "release"
    app.send_task("proj.hold", (str(log), "x", str(release)))
    wait_for(log.exists)
    (stats,) = (app.control.inspect().stats() or {}).values()

    for number, pid in enumerate((*stats["pool"]["processes"], worker.pid)):
        os.kill(pid, signal.SIGUSR2)
        port = wait_for(lambda n=number: ports(worker)[n:])[0]  # type: ignore[misc]
        with session(port) as client:
            until(client, b"(Pdb) ")
            client.sendall(b"!import os; print(os.getpid())\n")
            shown = until(client, b"(Pdb) ")
            client.sendall(b"c\n")
            until(client, b"never")
        assert str(pid) in shown

    release.touch()
    worker.term()
    assert worker.wait() == 0


def ports(worker: Process) -> list[int]:
    """Those where debuggers of the worker have listened."""
    return [int(n) for n in re.findall(r"Ready to connect: telnet 127\.0\.0\.1 (\d+)", worker.output())]
