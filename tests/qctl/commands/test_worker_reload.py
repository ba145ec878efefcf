"""`qctl worker --reload`: what is saved runs soon, what Python cannot read does not stop the worker."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from qctl import exit_codes
from qctl.commands.worker import reload
from tests.qctl.output.test_formats import run
from tests.support.processes import ROOT, Processes
from tests.support.waiting import wait_for

CODE = """
import time
from qcore import App
app = App("proj")

@app.task(name="proj.what")
def what():
    return {what!r}

@app.task(name="proj.nap")
def nap():
    time.sleep(0.5)
    return "rested"
"""


def test_a_save_starts_the_worker_anew(tmp_path: Path, sqlite_url: str, processes: Processes) -> None:
    proj = tmp_path / "proj.py"
    proj.write_text(CODE.format(what="old"))
    words = ("-A", "proj", "--workdir", str(tmp_path), "-b", sqlite_url, "worker", "--reload", "-c", "1")
    worker = processes.qctl(*words, "-l", "INFO", env={"PYTHONPATH": str(ROOT)})
    worker.wait_output(r"\bready\b")

    def call(*more: str) -> str:
        words = ("call", "proj.what", "--no-check", "--wait", "-t", "60", "-b", sqlite_url)
        return run(*words, *more)[1].strip()

    assert call() == "old"
    run("call", "proj.nap", "--no-check", "--id", "napping", "-b", sqlite_url)
    result = ("result", "napping", "-b", sqlite_url)
    wait_for(lambda: "napping" in run("inspect", "active", "-b", sqlite_url)[1] or run(*result)[1])

    proj.write_text(CODE.format(what="new"))
    wait_for(lambda: call() == "new")

    assert run(*result)[1] == "rested\n"
    proj.write_text("def broken(:\n")
    worker.wait_output(r"proj.py, line 1: .*; the worker continues with the old code")
    assert call() == "new"
    proj.write_text("import no_such_module\n")
    worker.wait_output("the next save restarts it")
    proj.write_text("def broken(:\n")
    worker.wait_output(r"proj.py, line 1: .*; no worker runs until the next save")
    proj.write_text(CODE.format(what="mended"))
    assert call() == "mended"
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(60) == exit_codes.OK


def test_a_save_in_several_writes_is_one_save(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("proj.py")
    before, emptied, saved = {path: (1, 90)}, {path: (2, 0)}, {path: (3, 95)}
    looks = iter([emptied, saved, saved])
    monkeypatch.setattr(reload, "times", lambda place: next(looks))

    assert reload.settled(Path(), before) == saved
    assert next(looks, None) is None
