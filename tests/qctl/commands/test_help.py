"""The topics of help say everything: fields, environment, exit codes; each exit code is driven once."""

from __future__ import annotations

import errno
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcore.brokers.contract.records import StoredResult
from qcore.brokers.registry import open_broker
from qcore.tasks.states import FAILURE
from qcore.wire.result import encode, exception_data
from qctl import exit_codes
from qctl.commands.explain.field_docs import MEANINGS, meaning
from qctl.commands.help import ENVIRONMENT
from tests.qctl.output.test_formats import commands, filled, run
from tests.support.processes import ROOT, Processes


def test_every_field_of_the_documents_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCTL_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    url, fields = filled(tmp_path), set[str]()
    for words in commands():
        document = json.loads(run(*words, "-b", url, "-o", "json", "-t", "0.05")[1])
        fields.update(document)
        items = document.get("items", [])
        fields.update(key for item in items if isinstance(item, dict) for key in item)

    assert len(fields) > 40
    missing = [f for f in sorted(fields) if meaning(f) is None]
    assert not missing, " ".join(missing)


def test_a_field_is_explained_or_the_nearest_is_named() -> None:
    assert run("explain", "in_flight")[1].split()[:2] == ["FIELD", "MEANING"]
    assert run("explain", "since", "-o", "json")[0] == exit_codes.OK
    assert len(json.loads(run("explain", "-o", "json")[1])["items"]) == len(MEANINGS)
    code, _, err = run("explain", "in_fligt")
    assert code == exit_codes.NOT_FOUND and "'in_flight'" in err


def test_every_variable_that_is_read_is_in_the_help() -> None:
    read = set()
    for package in ("qctl", "qcore"):
        for path in (ROOT / package).rglob("*.py"):
            read.update(re.findall(r"""["'](QCTL_[A-Z_]+)["']""", path.read_text()))
    # What a script of a shell tells us is nobody's to set; QCTL_READY is one of many that `watch` sets.
    # QCTL_PARENT_PID is what a command tells the processes it starts for itself.
    read -= {"QCTL_READY", "QCTL_PARENT_PID"}

    assert len(read) > 10
    assert read - set(ENVIRONMENT) == set()


Drive = Callable[[str, pytest.MonkeyPatch, Processes], int]


def line(*words: str) -> Drive:
    """The exit code of a command line at the broker of `filled`."""
    return lambda url, patch, processes: run(*words, *([] if "-b" in words else ["-b", url]))[0]


def failed(url: str, patch: pytest.MonkeyPatch, processes: Processes) -> int:
    broker = open_broker(url)
    meta = encode("bad", FAILURE, exception_data(ValueError("boom")), now=0.0)
    broker.store_results([StoredResult("bad", meta, None)])
    broker.close()
    return run("result", "bad", "-b", url)[0]


def partial(url: str, patch: pytest.MonkeyPatch, processes: Processes) -> int:
    broker = open_broker(url)
    broker.announce("w1@test", {}, 60.0)
    code = run("inspect", "ping", "-b", url, "-t", "0.1")[0]
    broker.close()
    return code


def raising(error: BaseException) -> Drive:
    """The exit code when looking at the queues raises."""

    def drive(url: str, patch: pytest.MonkeyPatch, processes: Processes) -> int:
        def look(*_: Any) -> None:
            raise error

        patch.setattr("qcore.brokers.sqlite.administration.SqliteAdministration.queues", look)
        return run("queue", "ls", "-b", url)[0]

    return drive


def closed_pipe(url: str, patch: pytest.MonkeyPatch, processes: Processes) -> int:
    process = subprocess.Popen([sys.executable, "-m", "qctl", "help", "filters"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    return process.wait(60)


def terminated(url: str, patch: pytest.MonkeyPatch, processes: Processes) -> int:
    dump = processes.qctl("-b", url, "events", "--dump")
    dump.wait_output("listening")
    dump.term(signal.SIGTERM)
    code = dump.wait(60)
    return 128 - code if code < 0 else code  # as a shell says it


DRIVEN: dict[int, Drive] = {
    exit_codes.OK: line("queue", "ls"),
    exit_codes.FAILED: failed,
    exit_codes.USAGE: line("no-such-command"),
    exit_codes.NOT_FOUND: line("result", "no-such-id"),
    exit_codes.PARTIAL: partial,
    exit_codes.NO_ANSWER: line("inspect", "ping", "-t", "0.1"),
    exit_codes.NOT_MET: line("wait", "queue:mails depth=0", "-t", "0.1"),
    exit_codes.REFUSED: line("purge", "-Q", "mails"),
    exit_codes.UNAVAILABLE: line("queue", "ls", "-b", "redis://127.0.0.1:1/0"),
    exit_codes.BUG: raising(RuntimeError("a bug")),
    exit_codes.NOT_PERMITTED: raising(PermissionError(errno.EACCES, "Permission denied", "secret")),
    exit_codes.BAD_CONFIG: line("inspect", "ping", "-b", "nosuch://"),
    exit_codes.TIMED_OUT: line("result", "no-such-id", "--wait", "-t", "0.1"),
    exit_codes.INTERRUPTED: raising(KeyboardInterrupt()),
    exit_codes.CLOSED_PIPE: closed_pipe,
    exit_codes.TERMINATED: terminated,
}


def test_the_table_of_exit_codes_is_the_one_that_is_driven() -> None:
    assert set(DRIVEN) == set(exit_codes.TABLE)


@pytest.mark.parametrize("code", DRIVEN)
def test_a_command_line_ends_with_each_exit_code(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: Processes
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    assert DRIVEN[code](filled(tmp_path), monkeypatch, processes) == code
