"""An election among three workers: the same lines on Celery's and on ours; and on RabbitMQ."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import celery
import pytest

import qcore
from qcore.testing.worker import start_worker
from tests.support.processes import READY, Processes
from tests.support.waiting import wait_for

NODES = ["e1@test", "e2@test", "e3@test"]


class Fleet(NamedTuple):
    """A package, a client of its workers, and the events that they have sent."""

    package: Any
    app: Any
    events: list[dict[str, Any]]

    def s(self, name: str, *args: Any) -> Any:
        return self.package.signature(f"flows.{name}", args=args, app=self.app)

    def elect(self, call: Any, *arguments: Any, done: Callable[[Any], bool] = lambda h: h.ready()) -> Any:
        """An election, and until it is over: Celery's workers do not hold two at a time. done: whether what
        was to be done is done, given what `call` returned."""
        is_celery = self.package is celery
        wait_s = 20 if is_celery else 60
        for _ in range(3):
            self.events.clear()
            handle = call(*arguments)
            about = arguments[0] if arguments else handle.id
            counts = {"worker-elect": 3, "worker-elect-ack": 9}  # each acknowledges all candidacies
            try:
                wait_for(lambda: all(len(self.sent(k, about)) == n for k, n in counts.items()), wait_s)  # noqa: B023
                break
            except AssertionError:  # a worker of Celery's that misses an event leaves it undecided
                if not is_celery:
                    raise
                if done(handle):
                    break
        wait_for(lambda: done(handle), what="what was to be done")
        return handle

    def sent(self, kind: str, about: str) -> list[dict[str, Any]]:
        return [e for e in list(self.events) if e["type"] == kind and e.get("id") == about]


def client(package: Any, url: str, backend: str) -> Any:
    app = (celery.Celery if package is celery else qcore.App)(
        "client", broker=url, backend=backend, set_as_current=False
    )
    for name in ("add", "total", "write"):
        app.task(name=f"flows.{name}")(_body)
    return app


def _body(*args: Any) -> None:
    """Runs in the workers only, which have their own."""


@pytest.fixture(params=["celery", "qcore"])
def fleet(
    request: pytest.FixtureRequest, redis_url: str, processes: Processes, tmp_path: Path
) -> Iterator[Fleet]:
    is_celery, url = request.param == "celery", redis_url
    # election() fails with Celery's Redis backend: TypeError
    backend = (tmp_path / "results").as_uri()
    (tmp_path / "results").mkdir()
    if is_celery:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("FLOWS_CELERY", "1")
            words = ("-c", "2", "-P", "threads", "-l", "DEBUG", "--without-mingle")
            started = [
                processes.start_celery_worker(
                    url, backend, *words, name=n, app="tests.projects.flows", ready=False
                )
                for n in NODES
            ]
        for worker in started:  # which of them take part is what each has heard of the others
            worker.wait_output(r"(?s)joined the party.*joined the party")
    else:
        words = ("-c", "2", "-P", "threads")
        started = [
            processes.start_qcore_worker(
                url, *words, name=n, app="tests.projects.flows", backend=backend, ready=False
            )
            for n in NODES
        ]
        for worker in started:  # heartbeats begin before it listens to requests
            worker.wait_output(READY)
    app = client(celery if is_celery else qcore, url, backend)
    events: list[dict[str, Any]] = []

    with celery.Celery(broker=url, set_as_current=False) as listener, listener.connection() as connection:
        receiver = listener.events.Receiver(connection, handlers={"*": events.append})
        ear = threading.Thread(target=receiver.capture, kwargs={"wakeup": False}, daemon=True)
        ear.start()
        wait_for(lambda: {e["hostname"] for e in list(events)} >= set(NODES), what="heartbeats of all")
        if not is_celery:
            wait_for(lambda: [m.node for m in app.broker.members()] == NODES, what="announcements of all")
        yield Fleet(celery if is_celery else qcore, app, events)
        receiver.should_stop = True
        ear.join()
    app.close()


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_of_three_workers_one_publishes_the_call(fleet: Fleet, tmp_path: Path) -> None:
    p, s, log = fleet.package, fleet.s, tmp_path / "log"

    handle = fleet.elect(s("write", 7, str(log)).election)
    assert handle.get(timeout=30) == 7
    elects, acks = (fleet.sent(f"worker-elect{what}", handle.id) for what in ("", "-ack"))
    assert sorted(e["hostname"] for e in elects) == NODES
    assert Counter(e["hostname"] for e in acks) == dict.fromkeys(NODES, 3)
    assert all(type(e[k]) is int for e in elects + acks for k in ("pid", "clock"))
    assert {k: elects[0][k] for k in ("topic", "cver")} == {"topic": "task", "cver": 1}
    assert {k: elects[0]["action"][k] for k in ("task", "args", "kwargs", "options")} == {
        "task": "flows.write",
        "args": [7, str(log)],
        "kwargs": {},
        "options": {"task_id": handle.id},
    }

    add, total, write = (fleet.app.tasks[f"flows.{name}"] for name in ("add", "total", "write"))
    header = [s("add", 1, 1), s("add", 2, 2)]
    assert fleet.elect(p.chain(s("add", 1, 1), s("add", 2)).election).get(timeout=30) == 4
    assert fleet.elect(p.chord(header, s("total")).election).get(timeout=30) == 6
    assert fleet.elect(total.map([[1], [2, 3]]).election).get(timeout=30) == [1, 5]
    assert fleet.elect(add.starmap([(1, 1), (2, 3)]).election).get(timeout=30) == [2, 5]
    group = p.group([s("write", n, str(log)) for n in (1, 2)], app=fleet.app)
    fleet.elect(group.election, done=lambda _: len(lines(log)) >= 3)
    chunks = write.chunks([(3, str(log)), (4, str(log))], 1)
    fleet.elect(chunks.election, done=lambda _: len(lines(log)) >= 5)
    fleet.elect(fleet.app.control.election, "unknown", "no such topic", done=lambda _: True)
    named = ("of a name", "task", s("write", 5, str(log)))
    fleet.elect(fleet.app.control.election, *named, done=lambda _: len(lines(log)) >= 6)

    assert Counter(lines(log)) == Counter({"7": 1, "1": 1, "2": 1, "3": 1, "4": 1, "5": 1})


@pytest.mark.parametrize("server", ["redis_url", "rabbit_url", "sqlite"])
def test_each_request_is_an_election_of_its_own(
    server: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/e.db" if server == "sqlite" else request.getfixturevalue(server)
    app, ran = qcore.App("elects", broker=url, set_as_current=False), list[int]()
    app.task(name="note")(ran.append)
    note = app.tasks["note"]

    with ExitStack() as workers:
        for node in ("one@test", "two@test"):
            workers.enter_context(start_worker(app, perform_ping_check=False, hostname=node))
        for n in (1, 2, 3):
            app.control.election("the same", "task", note.si(n))
        app.control.election("none", "task", {"no": "signature"})
        app.control.election("x" * 255, "task", note.si(4))
        wait_for(lambda: len(ran) >= 4, what="four elections")
        app.control.ping(timeout=10, limit=2)  # both have had all requests

    assert sorted(ran) == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["celery", "qcore"])
def test_a_worker_without_gossip_takes_no_part(
    kind: str, redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    log, events, backend = tmp_path / "log", list[dict[str, Any]](), tmp_path.as_uri()
    words = ("-c", "1", "-P", "threads", "--without-gossip")
    with pytest.MonkeyPatch.context() as patched:
        if kind == "celery":
            patched.setenv("FLOWS_CELERY", "1")
            processes.start_celery_worker(redis_url, backend, *words, app="tests.projects.flows")
        else:
            processes.start_qcore_worker(redis_url, *words, app="tests.projects.flows", backend=backend)
    app = client(celery, redis_url, backend)

    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": events.append})
        for _ in receiver.itercapture(limit=1, wakeup=False):
            pass  # a heartbeat: from here on it hears the worker
        app.control.election("e", "task", celery.signature("flows.write", args=(7, str(log)), app=app))
        wait_for(lambda: app.control.ping(timeout=10, limit=1))
        app.control.heartbeat()
        written = celery.signature("flows.write", args=(8, str(log)), app=app).delay()
        for _ in receiver.itercapture(limit=1, wakeup=False):
            pass

    assert written.get(timeout=60) == 8
    assert {event["type"] for event in events} <= {"worker-online", "worker-heartbeat"}
    assert lines(log) == ["8"]
    app.close()
