"""The built-in tasks of workflows, as clients of Celery's send them, on a worker of either kind."""

from __future__ import annotations

from typing import Any

import pytest

from qcore import App, signature
from qcore.errors import ChordError
from qcore.tasks.result import result_from_tuple
from tests.support.processes import Processes

FLOWS = "tests.projects.flows"


@pytest.fixture(params=["qcore", "celery"])
def app(
    request: pytest.FixtureRequest, redis_url: str, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> Any:
    if request.param == "qcore":
        processes.start_qcore_worker(redis_url, "-c", "2", app=FLOWS)
    else:
        monkeypatch.setenv("FLOWS_CELERY", "1")
        processes.start_celery_worker(redis_url, redis_url, "-c", "2", app=FLOWS)
    return App("client", broker=redis_url, backend=redis_url, set_as_current=False)


def flow(app: Any, name: str, *args: Any, **options: Any) -> dict[str, Any]:
    return dict(signature(f"flows.{name}", args, app=app, **options))


def unlock(app: Any, members: list[Any], callback: dict[str, Any]) -> None:
    result = [one.as_tuple() for one in members]
    kwargs = {"interval": 0.1, "max_retries": None, "result": result}
    app.send_task("celery.chord_unlock", ("a-group", callback), kwargs)


def test_maps_and_chunks(app: Any) -> None:
    adds = {"task": flow(app, "add"), "it": [[1, 2], [3, 4], [5, 6]]}
    assert app.send_task("celery.starmap", (), adds).get(timeout=60) == [3, 7, 11]
    parts = app.send_task("celery.chunks", (), {**adds, "n": 2}).get(timeout=60)
    assert result_from_tuple(parts, app).get(timeout=60) == [[3, 7], [11]]


def test_a_chord_that_is_polled_runs_its_body_once_its_members_are_done(app: Any) -> None:
    members = [app.send_task("flows.add", (i, i), countdown=i / 2) for i in range(4)]
    body = flow(app, "total", task_id="the-body")
    unlock(app, members, body)
    assert app.AsyncResult("the-body").get(timeout=60) == 12


def test_a_chord_that_is_polled_fails_with_its_member(app: Any) -> None:
    members = [app.send_task("flows.add", (1, 1)), app.send_task("flows.fail")]
    errback = flow(app, "listed", task_id="the-errback")
    unlock(app, members, flow(app, "total", task_id="the-body", link_error=[errback]))
    with pytest.raises(ChordError, match="ValueError"):
        app.AsyncResult("the-body").get(timeout=60)
    assert app.AsyncResult("the-errback").get(timeout=60) == "the-body"


def test_a_chord_and_a_group_sent_as_tasks(app: Any) -> None:
    header = [flow(app, "add", 1, 2), flow(app, "add", 3, 4)]
    body = flow(app, "total", task_id="the-body")
    app.send_task("celery.chord", (header, body))
    assert app.AsyncResult("the-body").get(timeout=60) == 10
    calls = [flow(app, "add", 5, task_id="one"), flow(app, "add", 6, task_id="two")]
    result = [["a-group", None], [[["one", None], None], [["two", None], None]]]
    app.send_task("celery.group", (calls, result, "a-group", [10]))
    assert [app.AsyncResult(i).get(timeout=60) for i in ("one", "two")] == [15, 16]
