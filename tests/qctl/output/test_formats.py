"""What every command prints in every format, on a broker without workers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore.brokers.contract.records import Message, Settle, Settlement
from qcore.brokers.registry import open_broker
from qctl import exit_codes
from qctl.main import main
from qctl.manual import pages
from qctl.output import yaml as our_yaml
from qctl.output.csv_fields import fields_of
from qctl.output.template import Template
from tests.contracts.consuming import take
from tests.qctl.cli.test_command_line import qctl

EVIL = "\x1b]52;c;aGk=\x07=1+1\u202e\u200b\x9b31m[red]\r\n"


def run(*words: str) -> tuple[int, str, str]:
    """qctl in this process: exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return filled(tmp_path_factory.mktemp("formats"))


def filled(directory: Path) -> str:
    """A broker with two queues, one message set aside, and nobody at work."""
    found = f"sqlite:///{directory}/broker.db"
    broker = open_broker(found)
    broker.publish([Message(b"{}", queue="mails") for _ in range(3)])
    broker.publish([Message(EVIL.encode(), queue="=cmd()"), Message(b"{}", queue="=cmd()")])
    consumer = broker.consumer(["=cmd()"])
    (held,) = take(consumer, 1)
    consumer.settle([Settlement(held, Settle.QUARANTINE, reason="=evil\x1b[2J\u202e")])
    consumer.close()
    broker.close()
    return found


READERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "ndjson": lambda text: [json.loads(line) for line in text.splitlines()],
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "csv": lambda text: list(csv.DictReader(io.StringIO(text), strict=True)),
}

#: they print no data, or do not end by themselves
NO_DATA = {"help", "completion", "worker", "demo", "beat", "events", "metrics serve", "task record", "bench"}
#: arguments that commands need
WORDS = {
    "name": "mails",
    "source": "mails",
    "target": "mails-2",
    "message_id": "1",
    "task_id": "no-such-id",
}


def commands() -> list[list[str]]:
    """The words of every command, with arguments that fit."""
    found = []
    for name, page, _ in pages():
        words = name.split()[1:]
        if not words or NO_DATA & {words[0], name.removeprefix("qctl ")} or isinstance(page, click.Group):
            continue
        for param in page.params:
            if isinstance(param, click.Argument) and param.required:
                words.append(WORDS.get(param.name or "", "x"))
        found.append(words)
    return found


@pytest.mark.parametrize("form", READERS)
def test_every_command_prints_what_a_reader_of_the_format_takes(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCTL_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.chdir(tmp_path)  # `queue save` writes a file
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    url, wrong = filled(tmp_path), []
    for words in commands():
        if words[0] == "control" and form != "json":
            continue  # the same code as `inspect`
        code, out, err = run(*words, "-b", url, "-o", form, "-t", "0.05")
        if code == exit_codes.BUG or "Traceback" in err:
            wrong.append((words, code, err))
        try:
            READERS[form](out)
        except (ValueError, yaml.YAMLError, csv.Error) as exc:
            wrong.append((words, code, f"{exc}: {out[:200]}"))

    assert not wrong


@pytest.mark.parametrize(
    "form", ["table", "wide", "name", "csv", "tsv", "fields=id,reason,at", "template={reason}"]
)
def test_what_a_terminal_would_act_on_is_shown_in_words(form: str, url: str) -> None:
    code, out, _ = run("quarantine", "ls", "-b", url, "-o", form)

    assert code == exit_codes.OK
    assert not set(out) & set("\x1b\x07\x9b\r\u202e\u200b")


@pytest.mark.parametrize("words", ["queue ls", "quarantine ls", "list bindings", "config ls"])
def test_csv_has_the_same_heading_when_nothing_is_there(words: str, url: str, tmp_path: Path) -> None:
    command, empty = words.split(), f"sqlite:///{tmp_path}/empty.db"

    (item, *_) = json.loads(run(*command, "-b", url, "-o", "json")[1])["items"]
    headings = {run(*command, "-b", place, "-o", "csv")[1].splitlines()[0] for place in (url, empty)}

    assert headings == {",".join(item)}


def test_csv_is_safe_in_a_spreadsheet(url: str) -> None:
    _, out, _ = run("quarantine", "ls", "-b", url, "-o", "csv")

    (row,) = csv.DictReader(io.StringIO(out))
    assert row["queue"] == "'=cmd()"
    assert row["reason"] == "'=evil\\x1b[2J\\u202e"


def test_fields_and_templates_and_lists_that_are_cut(url: str) -> None:
    def answer(*words: str) -> str:
        return run("queue", "ls", "-b", url, *words)[1]

    assert answer("-o", "fields=queue,ready", "--sort=-ready") == "mails\t3\n=cmd()\t1\n"
    assert answer("-o", "template={{{queue}}}\\t{paused}", "--limit", "1") == "{=cmd()}\tfalse\n"
    assert answer("-o", "tsv", "--columns", "ready,in_flight", "--sort", "ready") == "1\t0\n3\t0\n"
    assert answer("--no-headers", "--columns", "ready,queue") == "1  =cmd()\n3  mails\n"
    assert [i["queue"] for i in json.loads(answer("-o", "json", "--sort", "queue"))["items"]] == [
        "=cmd()",
        "mails",
    ]
    fields = "queue,ready,delayed,in_flight,oldest_at,consumers,paused,paused_by,pause_reason,paused_at"
    rest = "paused_until_at,in_per_s,out_per_s,rates,pause_ignored_by"
    assert answer("-o", "csv").splitlines()[0] == f"{fields},{rest}"


def test_an_empty_list_is_right_in_every_format(tmp_path: Path) -> None:
    expected = {
        "table": "",
        "wide": "",
        "ndjson": "",
        "csv": f"{','.join(fields_of('queue'))}\n",
        "tsv": "",
        "name": "",
        "fields=x": "",
        "template={x}": "",
    }

    for form, text in expected.items():
        assert run("queue", "ls", "-b", f"sqlite:///{tmp_path}/b.db", "-o", form)[:2] == (0, text), form
    yaml_text = run("queue", "ls", "-b", f"sqlite:///{tmp_path}/b.db", "-o", "yaml")[1]
    assert yaml.safe_load(yaml_text) == {"schema": "qctl.queue", "version": 1, "items": []}


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["-o", "jso"], "'json'"),
        (["-o", "template"], "template=TEXT"),
        (["-o", "json=x"], "written json"),
        (["-o", "template={a.__class__!r}"], "a field is a name"),
        (["-o", "template={a"], "without its partner"),
        (["-o", "fields=quue"], "'queue'"),
        (["-o", "template={quue}"], "'queue'"),
        (["--sort", "redy"], "'ready'"),
        (["--columns", "redy"], "'ready'"),
    ],
)
def test_a_wrong_format_is_answered_with_the_right_one(words: list[str], fragment: str, url: str) -> None:
    code, out, err = run("queue", "ls", "-b", url, *words)

    assert (code, out) == (exit_codes.USAGE, "")
    assert fragment in err


def test_the_environment_names_a_format_too(url: str) -> None:
    good = qctl("queue", "ls", "-b", url, QCTL_OUTPUT="fields=queue")
    bad = qctl("queue", "ls", "-b", url, QCTL_OUTPUT="jso")

    assert good.stdout == "=cmd()\nmails\n"
    assert (bad.returncode, bad.stdout) == (exit_codes.USAGE, "")
    assert "QCTL_OUTPUT" in bad.stderr and "'json'" in bad.stderr


def test_a_template_calls_nothing_and_looks_at_no_attribute() -> None:
    class Bait:
        def __getattr__(self, name: str) -> str:
            raise AssertionError(name)

    from qctl.output.template import value_at

    assert value_at({"a": Bait()}, "a.b") is None
    assert value_at({"a": {"b": [1, 2]}, "a.c": 3}, "a.b.1") == 2
    assert value_at({"a.c": 3}, "a.c") == 3
    assert Template("{{}} {a}\\t").filled({"a": "x"}) == "{} x\t"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(json_values)
def test_what_yaml_says_is_what_was_meant(value: Any) -> None:
    assert yaml.safe_load(our_yaml.dump(value)) == value
