"""Completion with the script of bash and a worker that runs; commands that an app brings."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from qcore.brokers.redis.servers import HEARTBEAT_S
from qctl import exit_codes
from tests.qctl.cli.test_command_line import PATIENT, qctl
from tests.qctl.output.test_formats import run
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer

NODE = "w1@test-host"


class Shell(NamedTuple):
    """bash with the script of qctl, and the address that qctl is told."""

    folder: Path
    url: str

    def complete(self, line: str, url: str = "", program: str = "patient") -> list[str]:
        """What TAB at the end of this line offers."""
        script = f"""
            source completions/qctl.bash
            compopt() {{ :; }}
            COMP_WORDBREAKS=$' \\t\\n"\\'@><=;|&(:'
            COMP_LINE=$1 COMP_POINT=${{#1}}
            _qctl_completion {self.folder}/{program}
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        env = {**os.environ, "QCTL_BROKER_URL": url or self.url, "XDG_CACHE_HOME": str(self.folder / "cache")}
        done = subprocess.run(
            ["bash", "-c", script, "bash", line], env=env, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        return done.stdout.split()


@pytest.fixture(scope="module")
def shell(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    if redis_server.process is None:
        redis_server.start()
    with redis_server.client() as client:
        client.flushall()
    folder = tmp_path_factory.mktemp("shell")
    for name, how in (("qctl", "-m qctl"), ("patient", f"-c '{PATIENT}'")):
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {how} "$@"\n')
        (folder / name).chmod(0o755)
    processes = Processes(folder)
    try:
        processes.start_qcore_worker(
            redis_server.url,
            "-P",
            "solo",
            name=NODE,
            app="tests.projects.brings",
        )
        yield Shell(folder, redis_server.url)
    finally:
        processes.close()


def test_tab_offers_what_is_there(shell: Shell) -> None:
    run("call", "brings.add", "-a", "[1, 1]", "-Q", "letters", "-b", shell.url)
    for line, offered in {
        "qctl inspect ping -d ": NODE,
        "qctl inspect ping -d w1@te": "test-host",  # bash replaces what stands behind the @
        "qctl worker drain ": NODE,
        "qctl call ": "brings.add",
        "qctl call brings.add -a '[1, 2]' -Q le": "letters",
        "qctl queue pause le": "letters",
        "qctl inspect sto": "stock",
        "qctl control re": "refill",
        "qctl failed ls na": "name:",
    }.items():
        assert offered in shell.complete(line), line

    cache = shell.folder / "cache" / "qctl" / "completion.json"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
    assert shell.url not in cache.read_text()


def test_a_broker_that_says_nothing_is_not_waited_for(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"

        def is_quick() -> bool:
            began = time.monotonic()
            assert shell.complete("qctl inspect ping -d ", url, "qctl") == []
            took = time.monotonic() - began
            shell.complete("qctl inspect pi", url, "qctl")
            bare = time.monotonic() - began - took
            return took < bare + HEARTBEAT_S / 2  # who waits for the broker waits a whole one

        assert any(is_quick() for _ in range(4))  # a busy machine may be slow for one of the two


def test_commands_of_an_app_are_commands_of_qctl(shell: Shell) -> None:
    def page(says: str, *words: str, url: str = shell.url) -> str:
        text = qctl("-b", url, *words, "--help", patient=True).stdout
        assert says in text
        return text

    page("Count what is in stock", "inspect")
    own = page("Put n apples into stock.", "control", "refill")
    page("stock", "-A", "tests.projects.brings", "inspect", url="redis://127.0.0.1:1/0")
    asked = run("inspect", "stock", "-o", "json", "-b", shell.url)
    told = run("control", "refill", "7", "-b", shell.url)
    wrong = run("control", "refill", "many", "-b", shell.url)
    unknown = run("inspect", "stok", "-b", shell.url)

    assert "<n>" in own
    assert asked[0] == exit_codes.OK and '"apples": 3' in asked[1]
    assert told[0] == exit_codes.OK and "7 apples" in told[1]
    assert wrong[0] == exit_codes.USAGE and "a whole number" in wrong[2]
    assert unknown[0] == exit_codes.USAGE
