"""`qctl worker ls, drain, resume, restart` with a live worker, and `qctl worker` as it always was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qcore.app.app import App
from qcore.control.client import Answers, Control, SilentWorker
from qctl import exit_codes
from qctl.main import main
from tests.qctl.cli.test_command_line import here
from tests.support.processes import Processes
from tests.support.waiting import wait_for


def test_the_page_of_worker_shows_its_options_and_its_commands() -> None:
    page = here("worker", "--help").stdout

    assert "--concurrency" in page
    for name in ("ls", "drain", "resume", "restart"):
        assert f"\n  {name} " in page


def test_a_fleet_is_listed_drained_resumed_and_restarted(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    url, log, release = redis_url, tmp_path / "log", tmp_path / "release"
    worker = processes.start_qcore_worker(url, "-c", "1", name="w1@test")
    app = App("asker", broker=url, set_as_current=False)

    def run(*words: str) -> Any:
        return here("worker", *words, QCTL_BROKER_URL=url, QCTL_TIMEOUT="60")

    def listed() -> dict[str, Any]:
        items: list[dict[str, Any]] = wait_for(lambda: json.loads(run("ls", "-o", "json").stdout)["items"])
        return items[0]

    def processes_of_the_pool() -> list[int]:
        found: list[int] = app.control.ask("stats", timeout_s=60).replies["w1@test"]["pool"]["processes"]
        return found

    long = app.send_task("proj.hold", (str(log), "long", str(release)))
    wait_for(log.exists)
    behind = [app.send_task("proj.add", (i, 1)) for i in range(3)]
    item = listed()
    for timeout in ("0.3", "3", "15"):  # on a busy machine the worker may need more than the first to answer
        short = run("drain", "w*@test", "--wait", "--yes", "-t", timeout, "-o", "json")
        if json.loads(short.stdout)["items"]:
            break
    wait_for(lambda: app.broker.administration.depth("celery").ready == 3)
    release.touch()  # so what was behind the task has come back before its end
    drained = run("drain", "w1@test", "--wait", "--yes")
    asked, resting = run("drain", "w*@test"), listed()
    before = processes_of_the_pool()
    resumed = run("resume", "w1@test")

    assert item | {"uptime_s": 0} == {
        "node": "w1@test",
        "state": "running",
        "pool": "prefork",
        "slots_used": 1,
        "slots": 1,
        "processed": item["processed"],
        "queues": ["celery"],
        "uptime_s": 0,
        "version": item["version"],
        "held": 1,
        "software": f"qcore {item['version']}",
        "pid": worker.pid,
    }
    assert short.returncode == exit_codes.PARTIAL
    [left] = json.loads(short.stdout)["items"]
    assert (left["node"], left["id"], left["name"], left["state"]) == (
        *("w1@test", long.id, "proj.hold", "running"),
    )
    assert left["age_s"] > 0.2
    assert asked.returncode == exit_codes.REFUSED
    assert drained.returncode == exit_codes.OK, drained.stderr
    assert (resting["state"], resting["queues"]) == ("draining", [])
    assert resumed.returncode == exit_codes.OK
    assert [b.get(timeout=60) for b in behind] == [1, 2, 3]
    assert listed()["state"] == "running"

    restarted = run("restart", "w1@test", "--yes", "-o", "json")

    assert json.loads(restarted.stdout)["items"] == [{"node": "w1@test", "state": "restarted"}]
    assert not set(before) & set(processes_of_the_pool())
    assert run("drain", "ghost@host", "--yes").returncode == exit_codes.NOT_FOUND
    worker.term()
    assert worker.wait() == 0
    app.close()


def test_a_drained_worker_that_does_not_answer_is_not_said_to_hold_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(self: Control, method: str, *_: Any, **__: Any) -> Answers:
        node = "w1@test"
        if method in ("ping", "drain"):
            return Answers({node: {"ok": "draining"}}, [], [], [node], 1, 0.0)
        return Answers({}, [SilentWorker(node)], [], [node], 1, 0.0)

    monkeypatch.setattr(Control, "ask", ask)

    code = main(["-b", "memory://drain", "worker", "drain", "w1@test", "--wait", "--yes", "-t", "0.1"])

    assert code == exit_codes.PARTIAL
    assert "the tasks of these workers are unknown" in capsys.readouterr().err


def test_a_worker_that_is_slow_and_then_gone_was_not_silent(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    worker = processes.start_qcore_worker(redis_url, "-c", "1", name="w1@test")
    worker.stop()
    told = processes.qctl("control", "shutdown", "--yes", "-t", "60", "-b", redis_url)
    told.wait_output("w1@test is silent")
    worker.cont()

    assert told.wait() == exit_codes.OK
    assert worker.wait() == 0


def test_a_name_that_nobody_could_check_is_said(redis_url: str, processes: Processes) -> None:
    worker = processes.start_qcore_worker(redis_url, "-c", "1", name="w1@test")
    worker.stop()

    done = here("call", "proj.ad", "-a", "[1, 2]", QCTL_BROKER_URL=redis_url)

    worker.cont()
    assert done.returncode == exit_codes.OK
    assert "whether 'proj.ad' is registered was not checked" in done.stderr
