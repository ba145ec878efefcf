"""Pages of docs/ whose examples are run: what is typed and shown in them, and a desk to try it at.

In:  the text of a page.  Out: its blocks and commands; what a command prints; whether that is what is shown.
`…` in what is shown stands for anything within a line, and a line of it alone for any lines. Commands of
qctl run in this process, which saves the start of thirty interpreters; workers are processes.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from qctl.main import main
from tests.qctl.cli.test_command_line import PATIENT
from tests.support.processes import ROOT, is_stopped
from tests.support.waiting import wait_for

DOCS = ROOT / "docs"


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of each block of code, with the name of its file as the kind for those to be written."""
    for name, kind, code in re.findall(r"(?:write this to `(\S+)`:\n\n)?```(\w+)\n(.*?)```", text, re.DOTALL):
        yield name or kind, code


def steps(text: str) -> Iterator[tuple[str, str]]:
    """(command, what is shown) of a block."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def fits(shown: str, printed: str) -> bool:
    lines = [
        r"(?:.*\n)*" if line == "…" else re.escape(" ".join(line.split())).replace("…", ".*") + "\n"
        for line in shown.splitlines()
    ]
    squeezed = "".join(" ".join(line.split()) + "\n" for line in printed.splitlines())
    return re.fullmatch("".join(lines), squeezed) is not None


def typed(command: str) -> str:
    """What is printed, stdout and stderr as they come."""
    words = ["sh", "-c", command] if "$(" in command else shlex.split(command)
    if words[:2] == ["qctl", "call"]:  # which asks the workers for half a second, and says when none answered
        words = [sys.executable, "-c", PATIENT, *words[1:]]
    elif words[0] == "qctl" and not {"worker", "beat"} & {*words}:
        both = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with redirect_stdout(both), redirect_stderr(both):
            main(words[1:])
        both.flush()
        return both.buffer.getvalue().decode()  # type: ignore[attr-defined]
    elif words[0] == "qctl":
        words = [sys.executable, "-m", *words]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    if command.startswith("kill -STOP "):  # whose threads go on until one of them has seen the signal
        pid = subprocess.check_output(["sh", "-c", command.replace("kill -STOP", "echo")], text=True).strip()
        wait_for(lambda: is_stopped(int(pid)), 60, f"process {pid} stops")
    return done.stdout + done.stderr


def desk_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new user's empty directory; at the end the workers end that `said.txt` in it names."""
    for name in [n for n in os.environ if n.startswith(("QCTL_", "CELERY_"))]:
        monkeypatch.delenv(name)
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)
    yield place
    said = place / "said.txt"
    for pid in map(int, re.findall(r"\(pid (\d+)\)", said.read_text() if said.exists() else "")):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def played(page: str, desk: Path) -> int:
    """Do what a page says, in order, and compare; returns the number of commands."""
    commands = 0
    with (desk / "said.txt").open("w") as said:
        for kind, text in blocks((DOCS / page).read_text()):
            if kind.endswith(".py"):
                (desk / kind).write_text(text)
            for command, shown in steps(text) if kind == "console" else ():
                printed = typed(command)
                said.write(printed)
                said.flush()
                commands += 1
                assert fits(shown, printed), f"$ {command}\n{printed}\n--- {page} shows\n{shown}"
    return commands
