"""What a worker reports of a run, in its log and as events, once the run's end is durable and not before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.events.receiver import listen
from tests.qcore.worker.test_worker import lines
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for


@pytest.fixture
def store() -> Iterator[RedisServer]:
    """A result store apart."""
    server = RedisServer(require_server())
    yield server
    server.stop()


@contextmanager
def heard(app: App) -> Iterator[list[dict[str, Any]]]:
    """All events from now on, in the order in which they come."""
    events: list[dict[str, Any]] = []
    over = threading.Event()
    with listen(app.broker) as batches:

        def gather() -> None:
            for batch in batches:
                events.extend(batch)
                if over.is_set():
                    return

        thread = threading.Thread(target=gather, daemon=True)
        thread.start()
        yield events
        over.set()
        thread.join(5)


def ends(events: list[dict[str, Any]], task_id: str) -> list[tuple[str, str]]:
    """Kind and node of the events that tell the end of a task."""
    kinds = ("task-succeeded", "task-failed", "task-revoked")
    return [
        (e["type"], e["hostname"]) for e in list(events) if e.get("uuid") == task_id and e["type"] in kinds
    ]


def test_an_end_is_reported_after_its_result_is_stored(
    redis_url: str, store: RedisServer, processes: Processes, tmp_path: Path
) -> None:
    app = App("order", broker=redis_url, result_backend=store.url, set_as_current=False)
    log = tmp_path / "log"
    with heard(app) as events:
        worker = processes.start_qcore_worker(
            redis_url, "-c", "1", "-E", "--heartbeat-interval", "1", backend=store.url, name="w1@test"
        )
        sent = app.send_task("proj.log_start", (str(log), "a", 0.5))
        wait_for(lambda: lines(log))

        store.kill9()
        wait_for(lambda: "done a" in lines(log))
        worker.wait_output("result store is unreachable")
        seen = len(events)
        wait_for(lambda: sum(e["type"] == "worker-heartbeat" for e in events[seen:]) >= 2)
        early, said = ends(events, sent.id), worker.output()
        store.start()
        wait_for(lambda: ends(events, sent.id))
        stored = app.results.get([sent.id])[0]

    assert early == []
    assert "succeeded" not in said
    assert ends(events, sent.id) == [("task-succeeded", "w1@test")]
    assert stored is not None and stored.status == "SUCCESS"
    worker.wait_output("succeeded")
    app.close()


def test_a_run_whose_settlement_is_refused_is_not_reported(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    app = App("refused", broker=redis_url, set_as_current=False)
    log, lease = tmp_path / "log", {"QCTL_LEASE": "0.7"}
    with heard(app) as events:
        first = processes.start_qcore_worker(redis_url, "-c", "1", "-E", name="first@test", env=lease)
        sent = app.send_task("proj.log_start", (str(log), "a", 0.3))
        wait_for(lambda: lines(log))

        first.stop()
        second = processes.start_qcore_worker(redis_url, "-c", "1", "-E", name="second@test", env=lease)
        assert sent.get(timeout=15) == "a"
        second.wait_output("succeeded")
        first.cont()
        first.wait_output(r"1 outcome\(s\) were refused")
        wait_for(lambda: ends(events, sent.id))

    assert ends(events, sent.id) == [("task-succeeded", "second@test")]
    assert "succeeded" not in first.output()
    app.close()


def test_a_task_acknowledged_early_is_reported_after_its_result_is_stored(
    redis_url: str, store: RedisServer, processes: Processes, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    app = App("early", broker=redis_url, result_backend=store.url, set_as_current=False)
    worker = processes.start_qcore_worker(
        redis_url, "-c", "1", "-E", backend=store.url, app="tests.projects.odd"
    )
    sent = app.send_task("odd.early", (str(log), 0.5))
    wait_for(lambda: lines(log))

    store.kill9()
    worker.wait_output("result store is unreachable")
    said = worker.output()
    store.start()
    worker.wait_output("succeeded")

    assert "succeeded" not in said
    assert app.results.get([sent.id])[0] is not None
    app.close()
