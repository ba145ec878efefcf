"""docs/tutorial.md does what it says: its lines are run in order, in a fresh directory, and compared.

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
from tests.support.processes import ROOT

TEXT = (ROOT / "docs" / "tutorial.md").read_text()


def blocks() -> Iterator[tuple[str, str]]:
    """(kind, text) of each block of code, with the name of its file as the kind for those to be written."""
    for name, kind, text in re.findall(r"(?:write this to `(\S+)`:\n\n)?```(\w+)\n(.*?)```", TEXT, re.DOTALL):
        yield name or kind, text


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
    return done.stdout + done.stderr


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new user's empty directory."""
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
    for pid in map(int, re.findall(r"\(pid (\d+)\)", (place / "said.txt").read_text())):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_the_tutorial_is_true(desk: Path) -> None:
    commands = 0
    with (desk / "said.txt").open("w") as said:
        for kind, text in blocks():
            if kind.endswith(".py"):
                (desk / kind).write_text(text)
            for command, shown in steps(text) if kind == "console" else ():
                printed = typed(command)
                said.write(printed)
                said.flush()
                commands += 1
                assert fits(shown, printed), f"$ {command}\n{printed}\n--- the tutorial shows\n{shown}"

    assert commands > 25
