"""Whether the processes of other owners of this host have ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qcore.base import process_facts
from qcore.base.process_facts import started
from qcore.brokers.shared import neighbours
from qcore.brokers.shared.neighbours import Neighbours, is_gone, this_process


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def test_a_process_is_gone_when_it_was_killed_and_when_its_id_is_another_s() -> None:
    process = sleeper()
    since = started(process.pid)
    assert since

    assert not is_gone(process.pid, since)
    assert is_gone(process.pid, "1")
    process.kill()
    while started(process.pid) is not None:
        os.sched_yield()

    assert is_gone(process.pid, since)  # its parent has not fetched it
    process.wait()
    assert is_gone(process.pid, since)


def test_a_process_that_may_not_be_looked_at_is_not_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "stat").write_text("")
    monkeypatch.setattr(process_facts, "PROC", str(tmp_path))  # as with hidepid

    def kill(pid: int, signum: int) -> None:
        raise PermissionError

    monkeypatch.setattr(neighbours.os, "kill", kill)

    assert not is_gone(1, "123")


def test_only_others_that_say_where_they_run_are_looked_at() -> None:
    process = sleeper()
    found, place = Neighbours(), f"{process.pid} {started(process.pid)}"
    found.learn({"me": this_process(), "other": place, "odd": "x y", "none": "", "old": "1"}, "me")
    assert len(found) == 1 and found.ended() == []

    process.kill()
    process.wait()
    assert found.ended() == ["other"]
    found.forget(["other"])

    assert not found and found.ended() == []
