"""`qctl amqp`: the same commands do the same, and print the same, as those of `celery amqp`."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from celery.bin.amqp import AMQPContext
from celery.bin.celery import celery as theirs
from click.testing import CliRunner

from qctl import exit_codes
from qctl.main import main

#: command lines in their order; (words, further words of ours)
STEPS: list[tuple[list[str], list[str]]] = [
    (["queue.declare", "mails"], []),
    (["exchange.declare", "post", "topic", "0", "1"], []),
    (["queue.bind", "mails", "post", "mail.#"], []),
    (["basic.publish", "first text", "post", "mail.new"], []),
    (["basic.publish", "second", "", "mails"], []),
    (["basic.publish", "lost", "post", "other"], []),
    (["queue.declare", "mails", "1"], []),
    (["basic.get", "mails"], []),
    (["basic.get", "mails", "true"], []),
    (["queue.declare", "mails", "true"], []),
    (["queue.purge", "mails"], ["--yes"]),
    (["basic.get", "mails"], []),
    (["queue.delete", "mails", "1", "1"], ["--yes"]),
    (["exchange.delete", "post", "0"], ["--yes"]),
    ([], []),
]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def ours(url: str, *words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["-b", url, "amqp", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_commands_do_and_print_what_celerys_do(
    rabbit_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said, expected, opened = [], [], list[Any]()
    connect = AMQPContext.reconnect
    monkeypatch.setattr(AMQPContext, "reconnect", lambda self: (opened.append(self), connect(self)))
    for words, more in STEPS:
        code, out, _ = ours(rabbit_url, *words, *more, capsys=capsys)
        assert code == exit_codes.OK, words
        said.append((words, out))
    for words, _ in STEPS:
        done = CliRunner().invoke(theirs, ["-b", rabbit_url, "amqp", *words])
        assert done.exit_code == 0, words
        opened[-1].connection.release()  # as at the end of its process
        expected.append((words, re.sub(r"\x1b\[\d*m", "", done.stdout)))  # OK is always bold

    assert said == expected


def test_commands_of_a_shell_share_a_channel(
    rabbit_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "queue.declare mails",
        "basic.publish 'a text' '' mails",
        "basic.get mails",
        "basic.ack 1",
        "basic.ack 7",  # RabbitMQ closes the channel, which the next command notices
        "queue.declare mails 1",
        "queue.declare mails 1",
        "queue.purge mails",
        "queue.purg mails",
        "basic.ack soon",
        "'",
        "help",
        "",
        "exit",
        "queue.delete mails --yes",
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))

    code, out, err = ours(rabbit_url, "repl", capsys=capsys)
    answers, errors = out.splitlines(), err.splitlines()

    assert code == exit_codes.OK
    assert out.count("-> connected.") == 2 and out.count("OK") == 6
    assert "'body': 'a text'" in out
    assert answers.count("queue:mails messages:0 consumers:0") == 2
    assert "basic.ack" in answers and "deleted" not in out
    assert "PRECONDITION_FAILED" in err and "give --yes" in err and "did you mean 'queue.purge'" in err
    assert [line for line in errors if line.startswith("qctl: ")][3:] == [
        "qctl: Invalid value for 'DELIVERY_TAG': 'soon' is not a valid integer",
        "qctl: No closing quotation",
    ]


@pytest.mark.parametrize(
    ("words", "code", "words_of_error"),
    [
        (["queue.declare", "nosuch", "1"], exit_codes.FAILED, "NOT_FOUND"),
        (["queue.delete", "mails"], exit_codes.REFUSED, "would be deleted"),
        (["exchange.delete", "post", "0"], exit_codes.REFUSED, "would be deleted"),
        (["exchange.delete", "post"], exit_codes.USAGE, "IF_UNUSED"),
        (["queue.purge", "mails", "--dry-run"], exit_codes.OK, "would be deleted (--dry-run)"),
        (["queue.declare", "mails", "--read-only"], exit_codes.REFUSED, "read-only"),
    ],
)
def test_what_is_not_done_is_one_sentence(
    rabbit_url: str, words: list[str], code: int, words_of_error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _, err = ours(rabbit_url, *words, capsys=capsys)

    assert found == code
    assert words_of_error in err and "Traceback" not in err


def test_a_change_is_in_the_audit_log(rabbit_url: str, tmp_path: Path) -> None:
    assert main(["-b", rabbit_url, "amqp", "queue.declare", "mails"]) == exit_codes.OK

    (line,) = next(tmp_path.rglob("audit.ndjson")).read_text().splitlines()
    assert json.loads(line)["command"].endswith("amqp queue.declare mails")


def test_a_server_that_is_away_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ours("amqp://guest:secret@127.0.0.1:1//", capsys=capsys)

    assert code == exit_codes.UNAVAILABLE
    assert "cannot connect to RabbitMQ" in err and "secret" not in err
