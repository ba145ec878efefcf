"""A thousand workers and ten thousand events a second on Redis, seen by the real dashboard in a terminal.

Every event arrives and is remembered within the memory that is allowed, and keys are answered meanwhile.
A busy machine may take longer: the server keeps what the dashboard has not read yet.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.processes import Processes
from tests.support.redis_server import RedisServer
from tests.support.simulator import node_of
from tests.support.waiting import wait_for

FULL = os.environ.get("QCORE_FAULTS") == "full"
SECONDS = float(os.environ.get("QCORE_LOAD_S", 600 if FULL else 6))
WORKERS, RATE = 1_000, 10_000
MEMORY_MB = 450
#: as many as are remembered, or all
MOST_TASKS = 1_000_000
_CODES = re.compile(r"\x1b(\[[0-9;?>$]*[a-zA-Z]|\][^\x07\x1b]*(\x07|\x1b\\))")


class Screen:
    """`qctl events` on a pty; what it writes is read all the time."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid, self._fd, self._tail = pid, fd, ""
        self.bytes = 0

    def read(self, seconds: float, until: str = "") -> bool:
        """Read for so long, or until this was written."""
        ends = time.monotonic() + seconds
        found = ""
        while (left := ends - time.monotonic()) > 0:
            if not select.select([self._fd], [], [], left)[0]:
                break
            data = os.read(self._fd, 1 << 16)
            self.bytes += len(data)
            found = (found + _CODES.sub("", data.decode(errors="replace")))[-200_000:]
            if until and until in found:
                self._tail = found
                return True
        self._tail = found
        return not until

    def press(self, key: str) -> None:
        os.write(self._fd, key.encode())

    def number(self, label: str) -> int:
        """What stands before a label, as it was written last."""
        found = re.findall(rf"([\d,]+) {label}", self._tail)
        return int(found[-1].replace(",", "")) if found else -1

    @property
    def memory_mb(self) -> float:
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


@contextmanager
def dashboard(url: str) -> Iterator[Screen]:
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-m", "qctl", "-b", url, "events"])
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    screen = Screen(pid, fd)
    try:
        yield screen
        screen.press("q")
        screen.read(3.0, "\x00")
    except OSError:
        pass
    finally:
        os.close(fd)
        os.waitpid(pid, 0)


@pytest.mark.timeout(SECONDS + 600)
def test_the_dashboard_answers_keys_and_counts_every_event_under_load(
    redis_url: str, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        # Without a limit the server waits for a reader that a busy machine holds up, and does not cut it off.
        client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
    with dashboard(redis_url) as screen:
        assert screen.read(60, "quit")
        words = [
            "-m",
            "qctl.commands.demo.fleet_publisher",
            redis_url,
            "--workers",
            str(WORKERS),
            "--rate",
            str(RATE),
        ]
        source = subprocess.Popen(
            [sys.executable, *words, "--for", str(SECONDS)], stdout=subprocess.PIPE, text=True
        )
        assert source.stdout is not None
        assert source.stdout.readline() == "ready\n"
        screen.press("3")
        while source.poll() is None:
            for key, seen in (
                ("4", "IN FLIGHT"),
                ("3", "ARGUMENTS"),
                ("?", "go to a view"),
                ("q", "ARGUMENTS"),
            ):
                screen.read(0.5)
                screen.press(key)
                assert screen.read(60.0, seen), key
        sent = json.loads(source.stdout.read())["events"]
        # The last line too: until then the screen may be half drawn. Only a view that was left is drawn anew.
        wait_for(
            lambda: (
                screen.press("4") is None
                and screen.read(60.0, "IN FLIGHT")
                and screen.press("8") is None
                and screen.read(1.0)
                and screen.number("heard") >= sent
                and screen.number("forgotten") >= 0
            ),
            300,
        )
        memory = screen.memory_mb
        heard, lost = screen.number("heard"), screen.number("lost")
        remembered, forgotten = screen.number("remembered"), screen.number("forgotten")
    print(f"{sent} sent, {heard} heard, {lost} lost; {memory:.0f} MB; {remembered} tasks remembered")

    assert sent > RATE * SECONDS / 2  # the source itself was not held up for long
    assert (heard, lost) == (sent, 0)
    assert memory <= MEMORY_MB
    assert not forgotten or remembered > 0.99 * MOST_TASKS


def test_a_large_fleet_is_listed_and_put_in_order(redis_url: str, processes: Processes) -> None:
    count = 1_000 if FULL else 200
    fleet = processes.start(
        sys.executable, "-m", "tests.support.simulator", redis_url, str(count), name="fleet"
    )
    fleet.wait_output("ready")
    with dashboard(redis_url) as screen:
        assert screen.read(60, f"up {count}/")  # what has not changed of it is not written again
        screen.press("2")
        assert screen.read(60, node_of(0))
        screen.press("s")
        assert screen.read(60, "order by")
        screen.press("w")
        screen.read(1)
        screen.press("S")
        assert screen.read(60, node_of(count - 1))
