"""Words that a command line should not contain, through the front door: one sentence and the right code;
settings that cannot be meant; and secrets, which no output shows."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from qcore.brokers.contract.records import Message
from qcore.brokers.registry import open_broker
from qctl import exit_codes
from tests.qctl.cli.test_command_line import qctl
from tests.qctl.output.test_formats import run
from tests.support.processes import Processes


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/broker.db"


# --- A01 to A12


@pytest.mark.parametrize("value", ["nan", "-1", "1e309", "inf", "", "x" * 1000])
def test_a_time_that_is_none_is_a_usage_error(value: str) -> None:  # A01
    code, _, err = run("status", "-b", "memory://", f"--timeout={value}")

    assert code == exit_codes.USAGE
    assert "length of time" in err and len(err.splitlines()) <= 2


@pytest.mark.parametrize("value", ["[1,", "{1}", "nul", '"x', "[" * 100_000, "[1] \x00"])
def test_arguments_that_are_not_json_are_shown_with_their_place(value: str, url: str) -> None:  # A02
    code, out, err = run("call", "x.y", "-b", url, "-a", value)

    assert (code, out) == (exit_codes.USAGE, "")
    assert "JSON" in err and "Traceback" not in err and "\x00" not in err


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\u202eb"])
def test_a_node_name_that_a_terminal_would_act_on_is_shown_in_words(name: str, url: str) -> None:  # A03
    looked = run("inspect", "ping", "-b", url, "-d", name, "-t", "0.1")
    started = run("worker", "-A", "tests.projects.proj", "-b", url, "-n", name, "-l", "nothing")

    for code, out, err in (looked, started):
        assert code in (exit_codes.NOT_FOUND, exit_codes.NO_ANSWER, exit_codes.USAGE)
        assert not set(out + err) & set("\x1b\u202e")


def test_a_pattern_that_nobody_has_matches_nobody(url: str) -> None:  # A04
    code, out, _ = run("inspect", "ping", "-b", url, "-d", "zz*@*", "-t", "0.1", "-o", "json")

    assert code in (exit_codes.NOT_FOUND, exit_codes.NO_ANSWER)
    assert json.loads(out)["replies"] == {}


def test_names_on_stdin_may_come_from_windows(url: str, monkeypatch: pytest.MonkeyPatch) -> None:  # A05
    monkeypatch.setattr(sys, "stdin", io.StringIO("\ufeffw1@h\r\nw2@h\x00\r\n"))

    code, out, _ = run("inspect", "ping", "-b", url, "-d", "-", "-t", "0.1", "-o", "json")

    assert code == exit_codes.NOT_FOUND
    assert json.loads(out)["unknown"] == ["w1@h", "w2@h"]


def test_an_argument_of_ten_megabytes_is_sent(url: str) -> None:  # A06
    big = json.dumps(["x" * 10_000_000])

    code, out, _ = run("call", "x.y", "-b", url, "-a", big)

    assert code == exit_codes.OK
    broker = open_broker(url)
    assert len(broker.administration.peek("celery")[0]) > 10_000_000
    broker.close()
    assert len(run("audit", "-b", url, "-o", "json")[1]) < 10_000
    assert out.strip()


def test_a_locale_without_utf8_shows_what_it_can(url: str) -> None:  # A10
    broker = open_broker(url)
    broker.publish([Message(b"{}", queue="grün-☃")])
    broker.close()
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}

    shown = qctl("queue", "ls", "-b", url, **plain)
    parsed = qctl("queue", "ls", "-b", url, "-o", "json", **plain)
    yaml_text = qctl("queue", "ls", "-b", url, "-o", "yaml", **plain)

    assert (shown.returncode, shown.stderr) == (exit_codes.OK, "")
    assert "gr" in shown.stdout
    assert yaml.safe_load(yaml_text.stdout)["items"][0]["queue"] == "grün-☃"
    assert json.loads(parsed.stdout)["items"][0]["queue"] == "grün-☃"


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "raise KeyboardInterrupt"])
def test_an_app_that_leaves_is_one_sentence(code: str, tmp_path: Path) -> None:  # A11
    (tmp_path / "leaves.py").write_text(f"print('hello')\n{code}\n")

    done = qctl("report", "-A", "leaves", "--workdir", str(tmp_path))

    assert done.returncode in (exit_codes.USAGE, exit_codes.INTERRUPTED)
    assert "Traceback" not in done.stderr
    assert "hello" not in done.stdout


def test_what_an_app_prints_is_not_part_of_the_answer(tmp_path: Path, url: str) -> None:  # A11
    (tmp_path / "noisy.py").write_text("from qcore import App\nprint('hello')\napp = App('noisy')\n")

    done = qctl("queue", "ls", "-A", "noisy", "--workdir", str(tmp_path), "-b", url, "-o", "json")

    assert json.loads(done.stdout)["items"] == []
    assert "hello" in done.stderr


@pytest.mark.parametrize("columns", ["0", "1", "10000", "-5", "x"])
def test_any_width_will_do(columns: str, monkeypatch: pytest.MonkeyPatch, url: str) -> None:  # A12
    monkeypatch.setenv("COLUMNS", columns)
    open_broker(url).publish([Message(b"{}", queue="mails")])

    for words in (["queue", "ls", "-b", url], ["--help"], ["help", "worker"]):
        assert run(*words)[0] == exit_codes.OK


# --- K09 to K11


def app_with(folder: Path, settings: str) -> tuple[int, str]:
    """What `report` says of an app with these settings."""
    (folder / "odd.py").write_text(
        f"from qcore import App\napp = App('odd', set_as_current=False)\napp.conf.update({settings})\n"
    )
    done = qctl("report", "-A", "odd", "--workdir", str(folder))
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("task_time_limit=-5", ["task_time_limit", "from 0 on, not -5", "default is None"]),  # K09
        ("timezone='Europe/Berln'", ["timezone", "'Europe/Berln'", "did you mean 'Europe/Berlin'"]),  # K10
        (
            "{'CELERY_ALWAYS_EAGER': True, 'task_always_eager': False}",
            ["'CELERY_ALWAYS_EAGER' and 'task_always_eager'", "keep only 'task_always_eager'"],
        ),  # K11
    ],
)
def test_a_setting_that_cannot_be_meant_is_one_sentence(
    settings: str, words: list[str], tmp_path: Path
) -> None:
    code, err = app_with(tmp_path, settings)

    assert code == exit_codes.BAD_CONFIG
    assert "'odd'" in err and all(word in err for word in words)


# --- secrets

SECRETS = [f"s3cret{i:02}" for i in range(12)]
PROJECT = f"""
from qcore import App

app = App("hush", set_as_current=False)
app.conf.update(
    broker_transport_options={{"password": "{SECRETS[0]}", "inner": {{"api_key": "{SECRETS[1]}"}},
        "url": "redis://u:{SECRETS[2]}@h/0"}},
    result_backend_transport_options={{"sentinel_kwargs": {{"password": "{SECRETS[3]}"}}}},
    redis_password="{SECRETS[4]}",
    security_key_password="{SECRETS[5]}",
)

@app.task(name="hush.fail")
def fail(password):
    raise ValueError("cannot reach redis://u:{SECRETS[6]}@h/0")
"""


@pytest.fixture
def hush(tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose settings are full of secrets, and an environment in which commands look at it."""
    (tmp_path / "hush.py").write_text(PROJECT)
    env = {
        "QCTL_BROKER_URL": f"sqlite:///{tmp_path}/b.db",
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
        "CELERY_BROKER_READ_URL": f"redis://u:{SECRETS[7]}@h/0",
        "QCTL_CONFIG": str(tmp_path / "config"),
    }
    worker = processes.start(
        *(sys.executable, "-m", "qctl", "-A", "hush", "worker", "-c", "1", "-P", "solo", "-n", "w@test"),
        env={**os.environ, **env},
    )
    worker.wait_output(r"\bready\b")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("hush")
def test_twelve_secrets_are_shown_nowhere() -> None:
    here = "127.0.0.1:1/0"
    failover = f"redis://u:{SECRETS[8]}@{here};redis://u:{SECRETS[9]}@{here}?password={SECRETS[10]}"
    task = run("call", "hush.fail", "-k", json.dumps({"password": SECRETS[11]}))[1].strip()
    run("ctx", "add", "x", "-b", failover, "--result-backend", failover)
    commands = [
        ["inspect", "conf"],
        ["inspect", "conf", "-o", "json"],
        ["inspect", "report"],
        ["inspect", "stats", "-o", "yaml"],
        ["-A", "hush", "report"],
        ["ctx", "show", "x", "-o", "csv"],
        ["ctx", "test", "x"],
        ["--context", "x", "config", "explain"],
        ["--context", "x", "status", "--debug"],
        ["-b", failover, "queue", "pause", "mails", "--debug"],
        ["result", task, "--wait", "-t", "5"],
        ["result", task, "-o", "json"],
        ["audit", "--local"],
    ]

    shown = {" ".join(words): run(*words) for words in commands}

    leaks = {words: [s for s in SECRETS if s in out + err] for words, (_, out, err) in shown.items()}
    assert not any(leaks.values()), leaks
    assert "********" in shown["inspect conf"][1]
    assert "cannot reach" in shown[f"result {task} --wait -t 5"][2]
    assert all(code != exit_codes.BUG for code, _, _ in shown.values())
