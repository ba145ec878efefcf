"""`-w`: the same command again and again, on a terminal and in a pipe."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qcore.brokers.contract.records import Message
from qcore.brokers.registry import open_broker
from qctl import exit_codes
from qctl.cli import repeat
from qctl.cli.session import Session
from tests.qctl.cli.test_command_line import qctl
from tests.support.waiting import wait_for


class Watched:
    """A qctl that is watched: what it has printed until now."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process, self.descriptor, self.seen = process, descriptor, ""

    def shows(self, pattern: str) -> str:
        """Wait until the output has it."""

        def look() -> str | None:
            while select.select([self.descriptor], [], [], 0)[0]:
                try:
                    self.seen += os.read(self.descriptor, 65536).decode()
                except OSError:  # the other end of the terminal is closed
                    break
            return self.seen if re.search(pattern, self.seen, re.S) else None

        return wait_for(look, 60)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextmanager
def watched(*words: str, terminal: bool = False) -> Iterator[Watched]:
    ours, theirs = pty.openpty() if terminal else os.pipe()
    env = {k: v for k, v in os.environ.items() if not k.startswith("QCTL_")} | {"TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-m", "qctl", *words], stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    try:
        yield Watched(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture
def url(tmp_path: Path) -> str:
    found = f"sqlite:///{tmp_path}/broker.db"
    publish(found, "mails")
    return found


def publish(url: str, queue: str) -> None:
    broker = open_broker(url)
    broker.publish([Message(b"{}", queue=queue)])
    broker.close()


def test_a_terminal_is_drawn_over_and_ctrl_c_ends_with_0(url: str) -> None:
    with watched("queue", "ls", "-b", url, "--watch=0.2", terminal=True) as view:
        view.shows(r"mails +1 .*\x1b\[H")
        publish(url, "mails")
        text = view.shows(r"mails +2 ")

        assert view.interrupt() == exit_codes.OK
        sequences = set(re.findall(r"\x1b[^a-zA-Z]*[a-zA-Z]", text))
        assert sequences <= {"\x1b[H", "\x1b[K", "\x1b[J", "\x1b[?7l", "\x1b[?7h", "\x1b[1m", "\x1b[0m"}
        assert text.count("\x1b[H\x1b[J") == 1  # cleared once, at the start


def test_ndjson_has_a_line_for_what_has_changed(url: str) -> None:
    with watched("queue", "ls", "-b", url, "-w=0.1", "-o", "ndjson") as view:
        view.shows("mails")
        publish(url, "reports")
        view.shows("reports")
        publish(url, "mails")
        text = view.shows('"mails", "ready": 2')

        assert view.interrupt() == exit_codes.OK
        lines = [json.loads(line) for line in text.splitlines()]
        assert [(i["queue"], i["ready"]) for i in lines] == [("mails", 1), ("reports", 1), ("mails", 2)]


def test_a_look_that_fails_is_said_and_the_next_may_go_better(url: str) -> None:
    with watched("status", "-b", url, "-w0.1") as view:
        view.shows("no worker is online.*no worker is online")

        assert view.interrupt() == exit_codes.OK


def test_interrupted_before_the_first_answer_is_130() -> None:
    def look() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repeat.watch(Session(), "qctl", look, 1.0)


def test_what_is_wrong_for_good_ends_at_once(url: str) -> None:
    wrong = qctl("queue", "ls", "-w", "-b", url, "--sort", "redy")
    changing = qctl("queue", "pause", "mails", "-w", "-b", url)

    assert (wrong.returncode, changing.returncode) == (exit_codes.USAGE, exit_codes.USAGE)
    assert "'ready'" in wrong.stderr
    assert "-w" in changing.stderr
