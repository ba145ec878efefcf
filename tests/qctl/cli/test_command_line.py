"""The command line without workers: parsing, help, errors, formats. Each test runs qctl as a process
or through main(), as a user would."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import click
import pytest

from qctl import exit_codes
from qctl.main import cli, main
from qctl.manual import pages
from tests.support.processes import run_python

FORBIDDEN = ("kombu", "redis", "textual", "rich", "asyncio", "msgspec", "tests.projects.proj")


#: qctl that gives a fleet on a busy machine the time it needs to say what it knows
PATIENT = (
    "import sys; from qctl.cli import completion_values as values; from qctl.commands import call; "
    "values.BUDGET_S = call.CHECK_S = 20.0; values.known.__defaults__ = (20.0,); "
    "from qctl.main import main; sys.exit(main())"
)


def qctl(*words: str, stdin: str = "", patient: bool = False, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("QCTL_", "CELERY_"))}
    program = ("-c", PATIENT) if patient else ("-m", "qctl")
    return run_python(*program, *words, env={**clean, **env}, stdin=stdin, imports="qctl")


def here(*words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """As qctl(), in this process: a tenth of the cost. Not with -A, which would leave the app behind."""
    out, err = io.StringIO(), io.StringIO()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("QCTL_", "CELERY_"))}
    with (
        mock.patch.dict(os.environ, {**clean, **env}, clear=True),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = main(words)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def one_sentence(done: subprocess.CompletedProcess[str]) -> bool:
    lines = done.stderr.strip().splitlines()
    return "Traceback" not in done.stderr and lines[0].startswith("qctl: ") and len(lines) <= 2


# --- help


def test_what_is_forked_begins_without_what_changes_qcore() -> None:
    """As a fresh qctl does: see tests/support/starter.py."""
    code = (
        "import os, sys; print([m for m in sys.modules if m.split('.')[0] in "
        "('kombu', 'celery', 'django', 'rich', 'textual')], os.environ['GIVEN'], os.getcwd(), sys.argv); "
        "sys.exit(7)"
    )
    env = {**os.environ, "GIVEN": "yes"}

    forked = run_python("-c", code, "word", env=env, cwd=Path("/"), imports="qctl")
    fresh = run_python("-c", code, "word", env=env, cwd=Path("/"))

    assert (forked.returncode, forked.stdout, forked.stderr) == (fresh.returncode, fresh.stdout, fresh.stderr)
    assert forked.stdout == "[] yes / ['-c', 'word']\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from qctl.main import main; main(['--help']);"
        f"print([m for m in {FORBIDDEN!r} if m in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[]"
    assert "Examples:" in done.stdout


def test_help_is_fast() -> None:
    """Both in turn, so that a busy machine is busy for both; another look when it was not."""

    def taken(*words: str) -> float:
        before = time.perf_counter()
        subprocess.run([sys.executable, *words], capture_output=True, check=True)
        return time.perf_counter() - before

    def is_fast() -> bool:
        pairs = [(taken("-m", "qctl", "--help"), taken("-c", "import click")) for _ in range(5)]
        help_s, click_s = (min(times) for times in zip(*pairs, strict=True))
        return help_s <= 2.5 * click_s

    assert any(is_fast() for _ in range(4))


def test_every_page_is_complete_and_fits_80_columns() -> None:
    for name, page, ctx in pages():
        text = page.get_help(ctx)

        assert page.examples, f"{name} has no example"
        assert text.index("Usage:") < text.index("Examples:") < text.index("Exit codes:"), name
        too_long = [line for line in text.splitlines() if len(line) > 80]
        assert not too_long, (name, too_long)


def test_every_option_has_a_help_text() -> None:
    silent = [
        f"{name} {p.opts}"
        for name, page, _ in pages()
        for p in page.params
        if isinstance(p, click.Option) and not p.help
    ]

    assert not silent


def test_the_lines_about_commands_are_those_of_their_pages() -> None:
    ctx = click.Context(cli, info_name="qctl")

    for name in cli.list_commands(ctx):
        page = cli.get_command(ctx, name)
        assert page is not None
        assert page.get_short_help_str() == cli.summary_of(ctx, name)


def test_without_arguments_there_is_a_short_help() -> None:
    done = qctl()

    assert done.returncode == 0
    assert all(word in done.stdout for word in ("Run:", "Look:", "Change:", "Set up:"))
    assert len(done.stdout.splitlines()) <= 14


@pytest.mark.parametrize(
    "words", [("help", "inspect", "active"), ("inspect", "active", "-h"), ("help", "call")]
)
def test_help_of_a_command_has_three_spellings(words: tuple[str, ...]) -> None:
    done = qctl(*words)

    assert done.returncode == 0
    assert "Usage: qctl" in done.stdout


def test_help_exit_codes_lists_every_code() -> None:
    done = here("help", "exit-codes")

    assert all(f"{code:>3}  {words}" in done.stdout for code, words in exit_codes.TABLE.items())


# --- names


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["inpsect"], "'inspect'"),
        (["inspect", "pong"], "'ping'"),
        (["control", "revok"], "'revoke'"),
        (["control", "ping"], "qctl inspect ping"),
        (["quarantine", "sho"], "'show'"),
        (["status", "-o", "jsn"], "'json'"),
        (["completion", "bsh"], "'bash'"),
        (["worker", "-P", "thread5"], "'threads'"),
        (["worker", "-l", "inf"], "'info'"),
        (["help", "insp"], "'inspect'"),
        (["call", "x", "--prioritty", "3"], "--priority"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(words: list[str], hint: str) -> None:
    done = qctl(*words)

    assert done.returncode == exit_codes.USAGE
    assert hint in done.stderr
    assert done.stdout == ""
    assert one_sentence(done)


# --- options


@pytest.mark.parametrize(
    "words",
    [
        ["-b", "memory://", "-o", "json", "inspect", "ping"],
        ["inspect", "-b", "memory://", "-o", "json", "ping"],
        ["inspect", "ping", "-b", "memory://", "-o", "json"],
        ["inspect", "ping", "--broker=memory://", "--json"],
    ],
)
def test_global_options_are_taken_before_and_after_the_command(words: list[str]) -> None:
    done = qctl(*words)

    assert done.returncode == exit_codes.NO_ANSWER
    assert json.loads(done.stdout)["replies"] == {}
    assert json.loads(done.stderr)["message"] == "no worker is online at memory://"


def test_the_option_beats_the_environment() -> None:
    done = here("status", "-b", "memory://", QCTL_BROKER_URL="redis://127.0.0.1:1/0")

    assert done.returncode == exit_codes.NO_ANSWER
    assert "memory://" in done.stderr


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["-a", "[1,2"], "  [1,2\n      ^"),
        (["-a", "1"], "takes a JSON list such as '[2, 2]'; this is a number"),
        (["-k", "[1]"], "this is a list"),
        (["--eta", "tomorrow"], "'tomorrow' is neither a time"),
        (["--countdown", "soon"], "'soon' is not a length of time"),
        (["--header", "foo"], "'foo' is not KEY=VALUE"),
        (["--serializer", "jsn"], "did you mean 'json'"),
        (["--priority", "12"], "12"),
    ],
)
def test_call_shows_what_is_wrong_with_a_value(words: list[str], fragment: str) -> None:
    done = here("call", "proj.add", "-b", "memory://", *words)

    assert done.returncode == exit_codes.USAGE
    assert fragment in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_word_too_many_is_an_error() -> None:
    done = here("inspect", "ping", "extra", "-b", "memory://")

    assert done.returncode == exit_codes.USAGE


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["control", "pool_grow", "x"], "takes a whole number, not 'x'"),
        (["inspect", "conf", "bogus"], "takes yes or no, not 'bogus'"),
        (["control", "rate_limit"], "needs task_name"),
    ],
)
def test_arguments_of_control_commands_are_checked_here(words: list[str], fragment: str) -> None:
    done = here(*words, "-b", "memory://")

    assert done.returncode == exit_codes.USAGE
    assert fragment in done.stderr


# --- apps and brokers


def test_an_app_that_is_not_there_is_one_sentence() -> None:
    done = qctl("-A", "nosuch", "status")

    assert done.returncode == exit_codes.USAGE
    assert one_sentence(done)
    assert "'nosuch'" in done.stderr


def test_an_app_that_raises_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("x = 1\nraise RuntimeError('no config')\n")

    done = qctl("-A", "broken", "--workdir", str(tmp_path), "status")

    assert done.returncode == exit_codes.USAGE
    assert one_sentence(done)
    assert "RuntimeError: no config" in done.stderr
    assert "broken.py:2" in done.stderr


def test_debug_shows_the_traceback() -> None:
    done = qctl("-A", "nosuch", "status", "--debug")

    assert "Traceback" in done.stderr


def test_a_worker_needs_an_app() -> None:
    done = qctl("worker", "-b", "memory://")

    assert done.returncode == exit_codes.USAGE
    assert "-A" in done.stderr


@pytest.mark.parametrize("words", [["status"], ["call", "x"], ["purge", "--yes"], ["events", "--dump"]])
def test_a_broker_that_refuses_is_said_at_once(words: list[str]) -> None:
    before = time.monotonic()

    done = here(*words, "-b", "redis://:hunter2@127.0.0.1:1/0", QCTL_TIMEOUT="90")

    assert done.returncode == exit_codes.UNAVAILABLE
    assert time.monotonic() - before < 45  # it did not try again until the time-out
    assert "127.0.0.1:1" in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_url_that_is_none_is_bad_configuration() -> None:
    done = here("status", "-b", "nonsense")

    assert done.returncode == exit_codes.BAD_CONFIG
    assert one_sentence(done)


# --- formats


@pytest.mark.parametrize("words", [["quarantine", "ls"], ["purge", "-Q", "celery"]])
def test_empty_lists_are_documents_too(words: list[str]) -> None:
    document = json.loads(qctl(*words, "-b", "memory://", "-o", "json").stdout)

    assert document["schema"].startswith("qctl.")
    assert document["version"] == 1
    assert isinstance(document["items"], list)


def test_errors_are_objects_in_json_mode() -> None:
    done = qctl("status", "-b", "memory://", "-o", "json")

    assert json.loads(done.stdout)["items"] == []
    assert json.loads(done.stderr) == {
        "schema": "qctl.error",
        "version": 1,
        "code": exit_codes.NO_ANSWER,
        "message": "no worker is online at memory://",
        "hint": "the broker can be reached; start a worker with `qctl -A proj worker`",
        "retryable": True,
    }


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m qctl help env | true; echo ${{PIPESTATUS[0]}}"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)

    assert done.stdout.strip() in ("0", str(exit_codes.CLOSED_PIPE))
    assert done.stderr == ""


def test_the_dashboard_without_a_terminal_says_what_to_use_instead() -> None:
    done = here("events", "-b", "memory://")

    assert done.returncode == exit_codes.USAGE
    assert "--dump" in done.stderr
    assert done.stdout == ""


# --- completion


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("qctl ins", "inspect"),
        ("qctl inspect act", "active"),
        ("qctl control rate", "rate_limit"),
        ("qctl completion z", "zsh"),
        ("qctl status -o nd", "ndjson"),
        ("qctl call --coun", "--countdown"),
    ],
)
def test_the_shell_gets_candidates(typed: str, expected: str) -> None:
    done = qctl(_QCTL_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD=str(len(typed.split()) - 1))

    assert f"plain,{expected}" in done.stdout.splitlines()


def test_completion_is_silent_when_the_broker_is_away(tmp_path: Path) -> None:
    done = qctl(
        _QCTL_COMPLETE="bash_complete",
        COMP_WORDS="qctl inspect ping -d w",
        COMP_CWORD="4",
        QCTL_BROKER_URL="redis://127.0.0.1:1/0",
        XDG_CACHE_HOME=str(tmp_path),
    )

    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    assert "_QCTL_COMPLETE" in qctl("completion", shell).stdout


def test_bash_accepts_its_script() -> None:
    done = subprocess.run(["bash", "-n"], input=qctl("completion", "bash").stdout, text=True, check=False)

    assert done.returncode == 0


def test_a_real_celery_app_can_be_looked_at_but_runs_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCTL_CELERY", "real")
    words = ("-m", "qctl", "-A", "tests.projects.celeryproj", "-b", f"sqlite:///{tmp_path}/broker.sqlite")

    worker = run_python(*words, "worker")
    status = run_python(*words, "status")

    assert worker.returncode == exit_codes.USAGE
    assert "is a Celery app" in worker.stderr
    assert "Traceback" not in worker.stderr
    assert status.returncode == exit_codes.NO_ANSWER
