"""Tasks with a Request class of their own: Celery's worker and ours call the same methods of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qcore import App
from qcore.errors import ConfigError
from qcore.testing.worker import start_worker
from qcore.worker.services import requests
from qcore.worker.services.requests import of_tasks
from qcore.worker.services.task_signals import TaskRequest
from tests.support.processes import Processes
from tests.support.waiting import wait_for

#: task -> how many lines its request writes
CALLS = {
    "add": 2,
    "early": 2,
    "fail": 3,
    "again": 6,
    "ignored": 3,
    "rejected": 3,
    "slow": 4,
    "caught": 3,
    "stuck": 5,
    "plain": 0,
}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_request_is_told_what_celerys_is_told(redis_url: str, processes: Processes, tmp_path: Path) -> None:
    found = {}
    for kind in ("celery", "qcore"):
        to = tmp_path / kind
        to.touch()
        env = {"REQUESTED_BY": kind, "REQUESTED_URL": redis_url, "REQUESTED_TO": str(to)}
        start = processes.celery if kind == "celery" else processes.qctl
        worker = start("-A", "tests.projects.requested", "worker", "-c", "1", "-l", "INFO", env=env)
        worker.wait_output(r"\bready\b")
        client, expected = App("client", broker=redis_url, set_as_current=False), 0
        for name, lines in CALLS.items():
            result = client.send_task(f"requested.{name}", (1, 2) if name == "add" else ())
            expected += lines
            wait_for(lambda to=to, most=expected: len(to.read_text().splitlines()) >= most, 30, name)
            if name != "ignored":
                result.get(timeout=30, propagate=False)
        worker.term()
        worker.wait()
        client.close()
        found[kind] = to.read_text().splitlines()

    assert found["qcore"] == found["celery"]
    assert len(found["qcore"]) == sum(CALLS.values())


def test_a_request_that_raises_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    app, seen = App("raises", broker="memory://raises", set_as_current=False), list[str]()
    said: list[str] = []
    note = SimpleNamespace(**dict.fromkeys(("warning", "exception"), lambda *a: said.append(a[0] % a[1:])))
    monkeypatch.setattr(requests, "log", note)

    class Broken(TaskRequest):
        def on_accepted(self, pid: int, time_accepted: float) -> None:
            seen.append(self.id)
            raise LookupError("on_accepted")

        def execute_using_pool(self, pool: Any) -> None: ...

    @app.task(name="one", Request=Broken)
    def one() -> int:
        return 1

    with start_worker(app, perform_ping_check=False):
        result = one.delay()
        assert result.get(timeout=30) == 1
        wait_for(lambda: "on_accepted() of a Request raised" in said)

    assert seen == [result.id]
    assert "the Request of the task one has execute_using_pool, not called here" in said


@pytest.mark.parametrize("kind", ["no_such_module:Request", "json:loads", int])
def test_a_request_that_is_none_is_an_error(kind: Any) -> None:
    app = App("wrong", broker="memory://wrong", set_as_current=False)
    app.task(name="one", Request=kind)(print)

    with pytest.raises(ConfigError, match="the Request of the task 'one'"):
        of_tasks(app.tasks)


def test_a_request_is_named_by_its_place() -> None:
    app = App("named", broker="memory://named", set_as_current=False)
    place = "qcore.worker.services.task_signals:TaskRequest"
    app.task(name="one", Request=place)(print)
    app.task(name="two", Request=f"{__name__}:Own")(print)

    assert of_tasks(app.tasks) == {"two": Own}


class Own(TaskRequest):
    """A class of a project."""
