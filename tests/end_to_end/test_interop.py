"""qcore and Celery 5.7 as neighbours: each one's workers with the other's clients and tools.

Real processes, real Redis and RabbitMQ. `side` is a broker URL with a place for results.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import celery
import pytest
from celery.exceptions import NotRegistered

from qcore import App
from tests.qctl.cli.test_command_line import here
from tests.support.processes import Process, Processes, celery_env
from tests.support.rabbit_server import RabbitServer, free_port
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

NODE = "q@interop"
#: the queue of Celery's worker
THEIRS = "theirs"
VHOST = f"interop{uuid.uuid4().hex[:6]}"
TWO_SLOTS = ("-c", "2", "-P", "threads")


class Side(NamedTuple):
    url: str
    backend: str


@pytest.fixture(scope="module", params=["redis", "rabbit"])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    if request.param == "redis":
        url: str = request.getfixturevalue("module_redis_url")
        yield Side(url, url)
    else:
        rabbit: RabbitServer = request.getfixturevalue("shared_rabbit")
        rabbit.start()
        yield Side(rabbit.add_vhost(VHOST), "rpc://")
        rabbit.delete_vhost(VHOST)


@pytest.fixture
def client(side: Side) -> Iterator[celery.Celery]:
    """A Celery app that only sends and asks."""
    app = celery.Celery("client", broker=side.url, backend=side.backend, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def ours(side: Side) -> Iterator[App]:
    """A qcore app that only sends and asks, Celery's worker."""
    app = App("client", broker=side.url, backend=side.backend, task_default_queue=THEIRS)
    yield app
    app.close()


@pytest.fixture(scope="module")
def worker(side: Side, module_processes: Processes) -> Process:
    """One for all tests of a side."""
    return module_processes.start_qcore_worker(side.url, *TWO_SLOTS, "-E", name=NODE, backend=side.backend)


@pytest.fixture
def celery_worker(side: Side, processes: Processes) -> Process:
    """With a queue of its own, which `worker` takes nothing from."""
    return processes.start_celery_worker(
        side.url, side.backend, "-c", "1", "-P", "solo", "-E", "-Q", THEIRS, name="c@interop"
    )


# --- Celery's client, our worker


def test_a_celery_client_gets_what_our_worker_returns(client: celery.Celery, worker: Process) -> None:
    results = [client.send_task("proj.add", (i, 1)) for i in range(20)]

    assert [r.get(timeout=60) for r in results] == list(range(1, 21))


def test_a_celery_client_gets_our_exceptions(client: celery.Celery, worker: Process) -> None:
    sent = client.send_task("proj.fail")

    with pytest.raises(ValueError, match="boom"):
        sent.get(timeout=60)
    assert sent.state == "FAILURE"
    assert "raise ValueError" in sent.traceback


def test_a_task_that_retries_ends_well(client: celery.Celery, worker: Process) -> None:
    assert client.send_task("proj.flaky").get(timeout=60) == 2


def test_a_countdown_is_kept(client: celery.Celery, worker: Process) -> None:
    began = time.time()

    assert client.send_task("proj.add", (1, 2), countdown=1.5).get(timeout=60) == 3
    assert time.time() - began >= 1.5


def test_an_unknown_task_fails_and_is_named(client: celery.Celery, worker: Process) -> None:
    sent = client.send_task("proj.unknown")

    with pytest.raises(NotRegistered):
        sent.get(timeout=60)
    assert client.send_task("proj.add", (1, 1)).get(timeout=60) == 2


def test_an_ignored_result_is_not_stored(client: celery.Celery, worker: Process, tmp_path: Path) -> None:
    log = tmp_path / "log"
    sent = client.send_task("proj.ignored", (str(log), "x"))

    wait_for(lambda: log.exists() and "ignored x" in log.read_text())
    assert client.send_task("proj.add", (1, 1)).get(timeout=60) == 2
    assert sent.state == "PENDING"


def test_a_chain_of_celerys_runs_on_our_worker(client: celery.Celery, worker: Process) -> None:
    add = client.signature("proj.add", args=(1, 2))
    chain = celery.chain(add, client.signature("proj.mul", args=(10,)), app=client)

    assert chain.apply_async().get(timeout=60) == 30


# --- Celery's tools, our worker


@pytest.fixture
def tool(side: Side, processes: Processes) -> Callable[..., str]:
    """Runs one of celery's commands to its end; what it printed."""

    def run(*args: str, code: int = 0) -> str:
        process = processes.celery("-A", "tests.projects.celeryproj", *args, env=celery_env(*side))
        assert process.wait(60) == code, process.output()
        return process.output()

    return run


def test_celery_inspects_our_worker(
    worker: Process, tool: Callable[..., str], client: celery.Celery, tmp_path: Path
) -> None:
    log, release = tmp_path / "log", tmp_path / "release"
    held = [client.send_task("proj.hold", (str(log), f"h{i}", str(release))) for i in range(3)]
    wait_for(lambda: log.exists() and log.read_text().count("started") == 2)
    inspect = client.control.inspect(timeout=1)

    pong = json.loads(tool("inspect", "ping", "--json"))
    active = json.loads(tool("inspect", "active", "--json"))
    registered, stats, reserved = inspect.registered(), inspect.stats(), inspect.reserved()

    assert pong == {NODE: {"ok": "pong"}}
    assert [t["name"] for t in active[NODE]] == ["proj.hold"] * 2
    assert {"proj.add", "proj.flaky"} <= {line.split()[0] for line in registered[NODE]}
    assert stats[NODE]["pid"] and "pool" in stats[NODE] and "total" in stats[NODE]
    assert isinstance(reserved[NODE], list)
    release.touch()
    assert [sent.get(timeout=60) for sent in held] == ["h0", "h1", "h2"]


def test_celery_controls_our_worker(worker: Process, tool: Callable[..., str]) -> None:
    assert "OK" in tool("control", "enable_events")
    assert "OK" in tool("control", "rate_limit", "proj.mul", "10/m")
    assert re.search(rf"{NODE}.*OK", tool("status"))


def test_celery_sees_our_events(
    worker: Process, side: Side, processes: Processes, client: celery.Celery
) -> None:
    watcher = processes.celery("-A", "tests.projects.celeryproj", "events", "--dump", env=celery_env(*side))
    watcher.wait_output(NODE)  # a heartbeat: from here on it hears us

    client.send_task("proj.add", (1, 2)).get(timeout=60)

    watcher.wait_output(r"proj\.add")
    watcher.wait_output(r"task succeeded")


@pytest.mark.parametrize("program", ["celery", "qctl"])
def test_flower_lists_our_worker_and_its_tasks(
    program: str, worker: Process, side: Side, processes: Processes, client: celery.Celery
) -> None:
    port = free_port()
    env = {**celery_env(*side), "FLOWER_UNAUTHENTICATED_API": "true"}
    flower = getattr(processes, program)(
        "-A", "tests.projects.celeryproj", "flower", f"--port={port}", "--address=127.0.0.1", env=env
    )
    flower.wait_output(rf"Visit me at http://127.0.0.1:{port}", 60)

    def ask(path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=10) as answer:
                return json.load(answer)
        except OSError:
            return None

    wait_for(lambda: NODE in (ask("workers?refresh=1") or {}), 60, "flower lists the worker")
    sent = client.send_task("proj.add", (1, 2))
    sent.get(timeout=60)

    seen = wait_for(lambda: (ask("tasks") or {}).get(sent.id), 60, "flower lists the task")
    assert seen["name"] == "proj.add"
    found = wait_for(lambda: (ask("tasks") or {}).get(sent.id, {}).get("state") == "SUCCESS", 60)
    assert found
    flower.term()
    assert flower.wait() == 0


# --- our client and tools, Celery's worker


def test_our_client_gets_what_a_celery_worker_returns(ours: App, celery_worker: Process) -> None:
    sent = [ours.send_task("proj.add", (i, 1)) for i in range(10)]
    many = ours.send_many("proj.add", [(i, 1) for i in range(50)])

    assert [r.get(timeout=60) for r in sent] == list(range(1, 11))
    assert [r.get(timeout=60) for r in many] == list(range(1, 51))
    with pytest.raises(ValueError, match="boom"):
        ours.send_task("proj.fail").get(timeout=60)
    assert ours.send_task("proj.flaky").get(timeout=60) == 2
    began = time.time()
    assert ours.send_task("proj.add", (1, 2), countdown=1.5).get(timeout=60) == 3
    assert time.time() - began >= 1.5


def test_qctl_works_on_a_celery_worker(celery_worker: Process, side: Side) -> None:
    def qctl(*args: str) -> str:
        done = here("-b", side.url, "--result-backend", side.backend, *args)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    # By name: nobody knows how many hear a request on RabbitMQ, so all others last as long as they may.
    named = ("-d", "c@interop", "-t", "50")
    if side.url.startswith("redis"):
        assert "c@interop" in qctl("status", "-t", "50")
    else:
        wait_for(lambda: "c@interop" in qctl("status", "-t", "5"), what="a reply within five seconds")
    assert "c@interop" in qctl("inspect", "ping", *named)
    assert "proj.add" in qctl("inspect", "registered", *named)
    assert "5" in qctl("call", "proj.add", "--queue", THEIRS, "-a", "[2, 3]", "--wait", "-t", "60")
    assert "c@interop" in qctl("control", "enable_events", *named)


# --- both at once


def test_a_shared_queue_is_drained_by_both_and_nothing_is_lost(
    side: Side, worker: Process, processes: Processes, client: celery.Celery, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    theirs = processes.start_celery_worker(
        side.url, side.backend, "-c", "1", "-P", "solo", "--without-gossip", "--without-mingle"
    )

    for i in range(500):
        client.send_task("proj.log_start", (str(log), f"t{i}", 0.002), ignore_result=True)

    def done() -> list[str]:
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.split()[1] for line in lines if line.startswith("done ")]

    wait_for(lambda: len(set(done())) == 500, 60, "500 tasks done")
    assert sorted(done()) == sorted(f"t{i}" for i in range(500))  # each once: nobody died
    pids = {line.split()[2] for line in log.read_text().splitlines() if not line.startswith("done ")}
    assert len(pids) >= 2
    assert worker.is_running and theirs.is_running
