"""Contexts, the project's file and the user's defaults: which of them counts, and mistakes in them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qctl import exit_codes
from tests.qctl.output.test_formats import run

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory for the user's files; commands run in an empty project."""
    for name in [n for n in os.environ if n.startswith(("QCTL_", "CELERY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("QCTL_CONFIG", str(tmp_path / "config"))
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return tmp_path


def contexts_file(home: Path, text: str) -> Path:
    path = home / "config" / "contexts.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def good(*words: str) -> list[dict[str, Any]]:
    code, out, err = run(*words, "-o", "json")
    assert code == exit_codes.OK, err
    items: list[dict[str, Any]] = json.loads(out)["items"]
    return items


def counts(key: str, *words: str) -> tuple[Any, str | None]:
    """The value of a setting and who said it."""
    (found,) = [i for i in good("config", "ls", *words) if i["key"] == key]
    return found["value"], found["source"]


def test_contexts_are_added_chosen_shown_and_removed(home: Path) -> None:
    good("ctx", "add", "prod", "-b", "redis://u:hunter2@host:1/0", "--class", "prod", "-A", "proj")
    good("ctx", "add", "here", "-b", f"sqlite:///{home}/b.db", "--colour", "green", "--queue", "mails")
    path = home / "config" / "contexts.toml"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [(i["name"], i["read_only"], i["current"]) for i in good("ctx", "ls")] == [
        ("prod", True, False),
        ("here", False, False),
    ]
    assert good("ctx", "use", "prod")[0]["current"]
    good("ctx", "use", "here")
    good("ctx", "-")
    assert good("ctx", "show")[0]["name"] == "prod"
    for form in ("json", "yaml", "csv", "table", "wide", "fields=broker"):
        assert "hunter2" not in "".join(map(str, run("ctx", "show", "prod", "-o", form)))
    assert good("ctx", "test", "here")[0]["reachable"] is True
    assert run("ctx", "rm", "prod")[0] == exit_codes.REFUSED
    good("ctx", "rm", "prod", "--yes")
    assert [i["name"] for i in good("ctx", "ls")] == ["here"]
    assert run("ctx", "show")[0] == exit_codes.NOT_FOUND


def test_the_strongest_place_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good("ctx", "add", "a", "-b", "memory://a", "--queue", "mails")
    good("ctx", "add", "b", "-b", "memory://b")
    (home / "config" / "config.toml").write_text('output = "json"\ntimeout = "3s"\n')

    assert counts("broker") == ("sqlite://", "built in")
    good("ctx", "use", "a")
    assert counts("broker") == ("memory://a", "context 'a'")
    assert counts("queue") == ("mails", "context 'a'")
    assert counts("timeout")[0] == "3s"
    pyproject = home / "project" / "pyproject.toml"
    pyproject.write_text('[tool.qctl]\nbroker = "memory://p"\n')
    assert counts("broker") == ("memory://p", str(pyproject))
    assert counts("queue") == (None, None)  # the context is about another fleet
    assert counts("broker", "--context", "b") == ("memory://b", "context 'b'")
    monkeypatch.setenv("QCTL_CONTEXT", "b")
    assert counts("broker") == ("memory://b", "context 'b'")
    monkeypatch.setenv("QCTL_BROKER_URL", "memory://env")
    assert counts("broker") == ("memory://env", "environment")
    assert counts("broker", "--context", "a") == ("memory://a", "context 'a'")
    assert counts("broker", "-b", "memory://flag") == ("memory://flag", "command line")

    explained = good("config", "explain", "broker", "-b", "memory://flag")
    assert [(i["value"], i["wins"]) for i in explained] == [
        ("memory://flag", True),
        ("memory://env", False),
        ("memory://b", False),
        ("memory://p", False),
        ("sqlite://", False),
    ]


def test_what_counts_is_what_is_used(home: Path) -> None:
    good("ctx", "add", "here", "-b", "memory://here", "-o", "ndjson")

    code, _, err = run("status", "--context", "here")

    assert code == exit_codes.NO_ANSWER
    assert json.loads(err)["message"] == "no worker is online at memory://here"


def test_nobody_takes_back_that_a_fleet_is_read_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good("ctx", "add", "prod", "-b", "memory://", "--class", "prod")
    good("ctx", "use", "prod")
    (home / "project" / "qctl.toml").write_text("read_only = false\n")

    assert counts("read_only") == (True, "context 'prod'")
    assert counts("read_only", "--read-write")[0] is False
    monkeypatch.setenv("QCTL_READ_ONLY", "0")
    assert counts("read_only") == (False, "environment")


def test_an_address_may_be_kept_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = home / "url"
    secret.write_text("memory://from-file\n")
    secret.chmod(0o600)
    monkeypatch.setenv("WHERE", "memory://from-env")

    assert "memory://from-file" in run("status", "-b", f"file:{secret}")[2]
    assert "memory://from-env" in run("status", "-b", "env:WHERE")[2]
    secret.chmod(0o644)
    assert "others can read" in run("status", "-b", f"file:{secret}")[2]
    for wrong in ("env:NOT_SET", "file:/nowhere", "keyring:x", "env:"):
        code, _, err = run("status", "-b", wrong)
        assert code == exit_codes.BAD_CONFIG, wrong
        assert len(err.splitlines()) <= 2 and "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "line", "fragment"),
    [
        ('[contexts.a]\nbrocker = "memory://"\n', 2, "'broker'"),  # K01
        ("[contexts.a]\nclass = 'x'\nread_only = 'yes'\n", 3, "true or false"),  # K02
        ("[contexts]\na = 3\n", 1, "a table"),  # K02
        ('[contexts.a]\nbroker = "redis://h:99999/0"\n', 2, "port"),  # K03
        ('[contexts.a]\nbroker = "localhost"\n', 2, "no scheme"),  # K03
        ('[contexts.a]\nbroker = "redis://h h/0"\n', 2, "white space"),  # K03
        ("[contexts.a]\n[contexts.a]\n", 2, "twice"),  # K06
        ('[contexts.a]\nbroker = "x\n', 2, "illegal character"),
        ("[contexts.a]\ncolour = 'rod'\n", 2, "red"),
        ("[context.a]\n", 1, "contexts.NAME"),
        ("x = 1\n" + "# " + "y" * 1024 * 1024, 1, "1 MiB"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_line(home: Path, text: str, line: int, fragment: str) -> None:
    path = contexts_file(home, text)

    code, _, err = run("--context", "a", "status")

    assert code == exit_codes.BAD_CONFIG
    assert err.startswith(f"qctl: {path}:{line}: ")
    assert fragment in err
    assert len(err.splitlines()) <= 2


def test_a_mistake_in_the_files_does_not_stand_in_the_way_of_help(home: Path) -> None:
    contexts_file(home, "[[")
    (home / "project" / "qctl.toml").write_text("brocker = 1\n")

    code, _, err = run("status")
    assert code == exit_codes.BAD_CONFIG and "qctl.toml:1:" in err and "'broker'" in err
    for words in (["help", "call"], ["status", "--help"], ["completion", "bash"]):
        assert run(*words)[0] == exit_codes.OK


def test_a_name_that_is_not_there_is_answered_with_the_nearest(home: Path) -> None:
    good("ctx", "add", "staging", "-b", "memory://")

    code, _, err = run("--context", "stagin", "status")

    assert code == exit_codes.BAD_CONFIG
    assert "'staging'" in err
    assert run("ctx", "use", "stagin")[0] == exit_codes.BAD_CONFIG
    assert run("ctx", "add", "a\x1bb", "-b", "memory://")[0] == exit_codes.USAGE
    assert run("ctx", "add", "staging", "-b", "memory://")[0] == exit_codes.USAGE


def test_a_file_with_a_password_that_others_can_read_is_named(home: Path) -> None:
    path = contexts_file(home, '[contexts.a]\nbroker = "redis://u:hunter2@127.0.0.1:1/0"\n')
    path.chmod(0o644)

    _, out, err = run("--context", "a", "config", "ls")

    assert f"others can read {path}" in err
    assert "hunter2" not in out + err


def test_the_files_of_strangers_are_passed_over(home: Path) -> None:
    path = home / "project" / "qctl.toml"
    path.write_text('broker = "memory://evil"\n')
    path.chmod(0o666)

    assert counts("broker")[0] == "sqlite://"
    assert "not used" in run("config", "ls")[2]


def test_all_contexts_are_asked_at_once(home: Path) -> None:
    good("ctx", "add", "here", "-b", f"sqlite:///{home}/b.db")
    good("ctx", "add", "away", "-b", "redis://127.0.0.1:1/0")

    code, out, err = run("status", "--all-contexts", "-o", "json", "-t", "0.1")

    assert code == exit_codes.NO_ANSWER
    assert [(i["context"], i["state"]) for i in json.loads(out)["items"]] == [
        ("here", "no workers"),
        ("away", "unreachable"),
    ]
    assert "127.0.0.1:1" in err


def test_an_edited_file_counts_when_it_has_no_mistake(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = home / "editor.py"
    script.write_text("import sys; open(sys.argv[1], 'a').write('\\n[contexts.new]\\n')")
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")

    assert [i["name"] for i in good("ctx", "edit")] == ["new"]
    code, _, err = run("ctx", "edit")  # the same table twice

    assert code == exit_codes.BAD_CONFIG and "twice" in err
    assert [i["name"] for i in good("ctx", "ls")] == ["new"]


def test_the_file_is_read_again_as_it_was_written(home: Path) -> None:
    from qctl.configuration import contexts
    from qctl.configuration.contexts import Context

    awkward = {"broker": 'redis://:"\\\x7f\u20ac@h/0', "queue": "ma\nils", "read_only": True}
    contexts.save({"a.b": Context("a.b", awkward)})

    assert contexts.load()["a.b"].values == awkward


def test_ctx_imports_no_broker(home: Path) -> None:
    code = (
        "import sys; from qctl.main import main; main(['ctx', 'ls']);"
        "print([m for m in ('kombu', 'redis', 'msgspec', 'rich', 'platformdirs') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_comments_of_the_user_stay(home: Path) -> None:
    path = contexts_file(
        home,
        "# our fleets\n\n[contexts.prod] # careful\nbroker = 'redis://h/0' # the big one\n\n"
        "# the old one goes soon\n[contexts.old]\nbroker = 'redis://old/0'\n",
    )

    good("ctx", "add", "new", "-b", "redis://n/1", "--colour", "green")
    good("ctx", "add", "prod", "-b", "redis://h/2", "--replace")
    text = path.read_text()
    good("ctx", "rm", "old", "--yes")

    assert [
        w for w in ("# our fleets", "# careful", "# the old one goes soon", "[contexts.new]") if w not in text
    ] == []
    assert [i["name"] for i in good("ctx", "ls")] == ["prod", "new"]
    assert good("ctx", "show", "prod")[0]["broker"] == "redis://h/2"
    assert "# our fleets" in path.read_text()
    assert "# careful" in path.read_text()
