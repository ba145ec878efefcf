"""What keeps people from changing what they did not mean to change: read-only, reasons, questions, audit."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest

from qcore.brokers.base import Broker
from qcore.brokers.contract.records import Message, Settle, Settlement
from qcore.brokers.registry import open_broker
from qctl import exit_codes
from qctl.manual import pages
from tests.contracts.consuming import take
from tests.qctl.output.test_formats import WORDS, run

LOOKING = ("status", "inspect", "events", "report", "ctx", "config", "completion", "help", "demo", "result")


def changing() -> list[list[str]]:
    """The words of every command that changes something, with arguments that fit."""
    found = []
    for name, page, _ in pages():
        if page.changes:
            needed = [
                p for p in page.params if isinstance(p, click.Argument) and (p.required or p.nargs == -1)
            ]
            found.append([*name.split()[1:], *(WORDS.get(p.name or "", "1") for p in needed)])
    return found


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A broker with three messages in `mails`, and a home without files."""
    monkeypatch.setenv("QCTL_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found = f"sqlite:///{tmp_path}/broker.db"
    broker = open_broker(found)
    broker.publish([Message(b"{}", queue="mails") for _ in range(3)])
    broker.close()
    return found


@pytest.fixture
def broker(url: str) -> Broker:
    return open_broker(url)


def test_what_looks_changes_nothing_and_the_rest_says_so() -> None:
    names = {words[0] for words in changing()}

    assert {"call", "purge", "control", "queue", "quarantine", "dead"} <= names
    assert not names & set(LOOKING)
    assert ["queue", "pause", "mails"] in changing()
    assert not any(words[:2] == ["queue", "ls"] for words in changing())


@pytest.mark.parametrize("how", ["option", "environment", "context"])
def test_a_read_only_fleet_is_not_even_asked(
    how: str, url: str, monkeypatch: pytest.MonkeyPatch, broker: Broker
) -> None:
    nowhere = "redis://127.0.0.1:1/0"  # asking it would end with 69
    words = ["--read-only", "-b", nowhere] if how == "option" else ["-b", nowhere]
    if how == "environment":
        monkeypatch.setenv("QCTL_READ_ONLY", "1")
    if how == "context":
        assert run("ctx", "add", "prod", "-b", nowhere, "--class", "prod")[0] == exit_codes.OK
        words = ["--context", "prod"]

    answers = {" ".join(c[:2]): run(*words, *c, "-o", "json") for c in changing()}

    assert {code for code, _, _ in answers.values()} == {exit_codes.REFUSED}, answers
    message = json.loads(answers["queue pause"][2])
    assert "read-only" in message["message"] and "--read-write" in message["hint"]
    if how == "context":
        assert "context 'prod'" in message["message"]


def test_prod_wants_a_reason_and_a_name(url: str, broker: Broker) -> None:
    assert run("ctx", "add", "prod", "-b", url, "--class", "prod")[0] == exit_codes.OK
    there = ["--context", "prod", "--read-write"]
    why = ["--reason", "they are old"]

    no_reason = run(*there, "purge", "-Q", "mails", "--yes")
    dry = run(*there, "purge", "-Q", "mails", "--dry-run")
    only_yes = run(*there, "purge", "-Q", "mails", "--yes", *why)
    wrong_name = run(*there, "purge", "-Q", "mails", "--confirm", "mail", *why)
    assert broker.administration.depth("mails").ready == 3
    done = run(*there, "purge", "-Q", "mails", "--confirm", "mails", *why)

    assert no_reason[0] == exit_codes.REFUSED and "--reason" in no_reason[2]
    assert dry[0] == exit_codes.OK
    assert only_yes[0] == exit_codes.REFUSED and "--confirm 'mails'" in only_yes[2]
    assert wrong_name[0] == exit_codes.REFUSED and "'mails'" in wrong_name[2]
    assert done[0] == exit_codes.OK
    assert broker.administration.depth("mails").ready == 0


def test_what_was_set_aside_is_all_removed_only_by_the_name_of_its_queue(
    url: str, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.publish([Message(b"{}", queue="odd\x1b[2J")])
    consumer = broker.consumer(["odd\x1b[2J"])
    consumer.settle([Settlement(take(consumer, 1)[0], Settle.QUARANTINE, reason="crashed_too_often")])
    consumer.close()
    assert run("ctx", "add", "prod", "-b", url, "--class", "prod")[0] == exit_codes.OK
    remove = ["--context", "prod", "--read-write", "dead", "rm", "--all", "--reason", "old"]

    refused = run(*remove, "--yes")
    wrong = run(*remove, "--confirm", "dead")
    with monkeypatch.context() as patch:
        stdin = io.StringIO("mails\n")
        stdin.isatty = lambda: True  # type: ignore[method-assign]
        patch.setattr("sys.stdin", stdin)
        mistyped = run(*remove)
    assert len(broker.administration.quarantined()) == 1
    done = run(*remove, "--confirm", "odd\\x1b[2J")  # as it is shown

    assert {refused[0], wrong[0]} == {exit_codes.REFUSED}
    assert mistyped[0] == exit_codes.FAILED and "type 'odd\\x1b[2J'" in mistyped[2] + mistyped[1]
    for _, out, err in (refused, wrong, mistyped, done):
        assert "\x1b[2J" not in out + err
    assert done[0] == exit_codes.OK
    assert broker.administration.quarantined() == []


@pytest.mark.parametrize("words", [["purge", "-Q", "mails"], ["queue", "move", "mails", "later"]])
def test_without_a_terminal_nothing_is_asked_and_nothing_done(
    words: list[str], url: str, broker: Broker
) -> None:
    code, _, err = run(*words, "-b", url)

    assert code == exit_codes.REFUSED
    assert "3 messages" in err and "mails" in err and "--yes" in err
    assert broker.administration.depth("mails").ready == 3


@pytest.mark.parametrize(
    ("typed", "code", "left"), [("mail", exit_codes.FAILED, 3), ("mails", exit_codes.OK, 0)]
)
def test_on_a_terminal_the_name_has_to_be_typed(
    typed: str, code: int, left: int, url: str, broker: Broker
) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "qctl", "purge", "-Q", "mails", "-b", url],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    os.write(ours, f"{typed}\n".encode())

    _, err = process.communicate(timeout=60)
    os.close(ours)

    assert process.returncode == code
    assert "3 messages of mails" in err and "type 'mails'" in err
    assert broker.administration.depth("mails").ready == left


def test_a_worker_may_not_purge_what_is_read_only(url: str, broker: Broker) -> None:
    code, _, err = run("worker", "--purge", "--read-only", "-A", "tests.projects.proj", "-b", url)

    assert code == exit_codes.REFUSED and "read-only" in err
    assert broker.administration.depth("mails").ready == 3


# --- audit


def entries(*words: str) -> list[dict[str, object]]:
    code, out, err = run("audit", *words, "-o", "json")
    assert code == exit_codes.OK, err
    found: list[dict[str, object]] = json.loads(out)["items"]
    return found


def test_every_change_is_noted_here_and_at_the_broker(url: str, tmp_path: Path) -> None:
    run("queue", "ls", "-b", url)
    run("queue", "pause", "mails", "-b", url, "--reason", "db \x1b upgrade")
    run("purge", "-Q", "mails", "-b", url)  # refused
    run("purge", "-Q", "mails", "-b", url, "--dry-run")
    run("queue", "pause", "mals", "-b", url)
    run("call", "x.y", "-b", url, "-k", '{"password": "hunter2", "n": 1}', "-H", "token=hunter3")
    run("queue", "resume", "mails", "-b", "redis://u:hunter4@127.0.0.1:1/0")

    here, there = entries("--local"), entries("-b", url)

    assert [(e["code"], str(e["command"]).split()[1]) for e in here] == [
        (exit_codes.UNAVAILABLE, "queue"),
        (exit_codes.OK, "call"),
        (exit_codes.NOT_FOUND, "queue"),
        (exit_codes.OK, "queue"),
    ]
    assert there == here[1:]
    assert there[-1]["reason"] == "db \x1b upgrade" and there[-1]["pid"] == os.getpid()
    log = tmp_path / "state" / "qctl" / "audit.ndjson"
    assert log.stat().st_mode & 0o777 == 0o600
    assert "hunter" not in log.read_text()
    table = run("audit", "-b", url, "-o", "wide")[1]
    assert "\\x1b upgrade" in table and "\x1b" not in table
    assert entries("--local", "--since", "1h") == here
    assert entries("-b", url, "--limit", "1") == there[:1]


def test_a_log_that_cannot_be_written_fails_no_command(url: str, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a directory")

    code, _, err = run("queue", "pause", "mails", "-b", url)

    assert code == exit_codes.OK
    assert "cannot be written" in err
    assert [e["code"] for e in entries("-b", url)] == [exit_codes.OK]


def test_a_full_log_is_put_aside(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qctl.cli.audit.MOST_BYTES", 500)

    for _ in range(3):
        run("queue", "pause", "mails", "-b", url)

    names = sorted(p.name for p in (tmp_path / "state" / "qctl").iterdir())
    assert names == ["audit.1.ndjson", "audit.ndjson"]
    assert len(entries("--local")) == 3


def test_what_others_wrote_into_the_log_is_passed_over(url: str, broker: Broker) -> None:
    for raw in (b"\xff", b"[]", b"[" * 100_000, b'{"at": {"x": 1}, "command": "\\u001b[2J"}'):
        broker.administration.audit(raw)

    code, out, _ = run("audit", "-b", url)

    assert code == exit_codes.OK
    assert "\x1b" not in out and r"\x1b[2J" in out
