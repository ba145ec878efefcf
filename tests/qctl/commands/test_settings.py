"""Settings at the command line: what a worker and `qctl beat` say of them, doctor, and `config explain`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcore.settings.config import Config
from qctl import exit_codes, settings_page
from qctl.commands.worker.detach import from_settings
from tests.qctl.cli.test_command_line import qctl
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for

PROJECT = """
from qcore import App

app = App("proj", broker={url!r}, set_as_current=True)
app.conf.update(
    worker_timer="mine:Timer",
    CELERY_WORKER_AGENT="k",
    worker_logfile={folder!r} + "/%n-%h%I.log",
    worker_pidfile={folder!r} + "/worker.pid",
    worker_log_datefmt="at %Y",
    worker_direct=True,
    beat_logfile={folder!r} + "/beat.log",
    beat_schedule={{}},
)
"""
SAID = "the setting worker_timer has no effect: the worker waits for the next event or due time itself"


def project(folder: Path, url: str) -> dict[str, str]:
    (folder / "setproj.py").write_text(PROJECT.format(url=url, folder=str(folder)))
    return {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}


@pytest.fixture
def away() -> Iterator[RedisServer]:
    """A server that is not started yet."""
    server = RedisServer(require_server())
    server.kill9()
    yield server
    server.stop()


def test_a_worker_waits_for_the_broker_and_says_once_what_has_no_effect(
    tmp_path: Path, processes: Processes, away: RedisServer
) -> None:
    env = project(tmp_path, away.url)
    words = ("-A", "setproj", "worker", "-P", "solo", "-n", "w@test", "-l", "INFO")
    worker = processes.qctl(*words, env=env)
    log = tmp_path / "w-test.log"
    wait_for(lambda: log.exists() and "try 1 of 100 to connect follows" in log.read_text())
    away.start()
    worker.wait_output("w@test ready")

    assert log.read_text().count(SAID) == 1
    assert log.read_text().count("the setting worker_agent has no effect") == 1
    assert log.read_text().startswith("[at 2")
    assert "celery, w@test.dq2" in worker.output()
    assert (tmp_path / "worker.pid").read_text().split()[0] == str(worker.pid)
    found = json.loads(qctl("-b", away.url, "doctor", "-o", "json").stdout)["items"]
    assert SAID in [item["what"] for item in found if item["name"] == "setting-without-effect"]


def test_beat_says_once_what_has_no_effect(tmp_path: Path, processes: Processes) -> None:
    env = project(tmp_path, f"sqlite:///{tmp_path}/b.db")
    beat = processes.qctl("-A", "setproj", "beat", env=env)
    beat.wait_output("Ready")

    assert (tmp_path / "beat.log").read_text().count(SAID) == 1


def test_an_option_precedes_its_setting() -> None:
    conf = Config(
        {"worker_logfile": "a.log", "worker_uid": 5, "worker_umask": 0o027, "beat_pidfile": "b"}, environ={}
    )
    given = dict.fromkeys(("logfile", "pidfile", "uid", "gid", "umask"))

    assert from_settings(conf, "worker", given | {"gid": "7"}) == {
        "logfile": "a.log",
        "pidfile": None,
        "uid": "5",
        "gid": "7",
        "umask": "27",
    }
    assert from_settings(conf, "worker", given | {"logfile": "c"})["logfile"] == "c"
    assert from_settings(conf, "beat", given)["pidfile"] == "b"


@pytest.mark.parametrize("name", ["worker_timer", "CELERYD_TIMER", "WORKER_TIMER"])
def test_what_a_setting_does_is_explained(name: str, tmp_path: Path) -> None:
    env = project(tmp_path, "memory://settings")
    done = qctl("-A", "setproj", "config", "explain", name, "-o", "json", **env)
    (item,) = json.loads(done.stdout)["items"]

    assert item == {
        "key": "worker_timer",
        "value": "mine:Timer",
        "source": "the app or the environment",
        "wins": True,
        "remark": "no effect: the worker waits for the next event or due time itself",
    }


def test_a_misspelt_setting_is_not_explained() -> None:
    done = qctl("config", "explain", "worker_timr")

    assert done.returncode == exit_codes.USAGE
    assert "did you mean 'worker_timer'" in done.stderr


def test_the_page_has_every_setting_once() -> None:
    lines = settings_page.page().splitlines()

    assert sum(line.startswith("| `") for line in lines) == 232 + 13
    assert len(lines) == len({*lines}) + lines.count("") - 1
    assert (
        "| `worker_timer` |  | no effect: the worker waits for the next event or due time itself |" in lines
    )


def test_a_call_that_waits_gets_its_result_and_a_queue_that_is_not_named_is_not_found(
    tmp_path: Path, processes: Processes
) -> None:
    """The worker of this app stores no results by itself."""
    text = f"""
from qcore import App
app = App("p", broker="sqlite:///{tmp_path}/c.db", task_create_missing_queues=False, task_ignore_result=True)
app.task(name="p.one")(lambda: 1)
"""
    (tmp_path / "callproj.py").write_text(text)
    env = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    refused = qctl("-A", "callproj", "call", "p.one", "-Q", "typo", "--no-check", **env)
    words = ("-A", "callproj", "worker", "-P", "threads", "-c", "1")
    processes.qctl(*words, env=env).wait_output(r"\bready\b")

    waited = qctl("-A", "callproj", "call", "p.one", "--wait", "-t", "30", **env)

    assert refused.returncode == exit_codes.NOT_FOUND
    assert "task_queues has no queue 'typo'" in refused.stderr
    assert (waited.returncode, waited.stdout.strip()) == (exit_codes.OK, "1")
