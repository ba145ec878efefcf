"""Queues with exchanges, bindings and arguments, as task_queues gives them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kombu import Exchange, Queue, binding

from qcore import App
from qcore.app.queues import QueueTable, bind
from qcore.errors import QueueNotFound
from qcore.settings.config import Config
from tests.support.processes import Processes, celery_env, run_python
from tests.support.rabbit_server import RabbitServer
from tests.support.waiting import wait_for

MEDIA = Exchange("media", "topic")
DEFAULT = ("celery", "direct", "celery")
PROJECT = "tests.projects.with_queues"


@pytest.mark.parametrize(
    ("given", "bindings", "arguments"),
    [
        (Queue("q"), [DEFAULT], {}),
        (Queue("q", MEDIA, routing_key="m.#"), [("media", "topic", "m.#")], {}),
        (Queue("q", MEDIA, "m.#", max_priority=9), [("media", "topic", "m.#")], {"x-max-priority": 9}),
        (Queue("q", queue_arguments={"x-queue-mode": "lazy"}), [DEFAULT], {"x-queue-mode": "lazy"}),
        (
            Queue("q", [binding(MEDIA, routing_key="a"), binding(Exchange("e", "direct"), routing_key="b")]),
            [("e", "direct", "b"), ("media", "topic", "a")],
            {},
        ),
        ({}, [("celery", "direct", "q")], {}),
        ({"exchange": "e"}, [("e", "direct", "q")], {}),
        (
            {"exchange": "e", "exchange_type": "topic", "routing_key": "m.#"},
            [("e", "topic", "m.#")],
            {},
        ),
        ({"exchange": MEDIA, "binding_key": "k"}, [("media", "topic", "k")], {}),
        (
            {"max_priority": 5, "queue_arguments": {"x": 1}},
            [("celery", "direct", "q")],
            {"x": 1, "x-max-priority": 5},
        ),
        ("q", [("q", "direct", "q")], {}),
    ],
)
def test_a_queue_is_defined_by_its_setting(
    given: Any, bindings: list[Any], arguments: dict[str, Any]
) -> None:
    table = QueueTable(Config({"task_queues": {"q": given} if isinstance(given, dict) else [given]}))

    found = table.definition("q")

    assert ("q", sorted(b[:3] for b in found.bindings), found.arguments) == (found.name, bindings, arguments)


def test_a_queue_that_may_not_be_created_is_refused_with_the_near_miss() -> None:
    table = QueueTable(Config({"task_queues": [Queue("mails")], "task_create_missing_queues": False}))

    with pytest.raises(QueueNotFound, match="no queue 'mals'; did you mean 'mails'"):
        table.required("mals")


def test_what_is_sent_to_the_exchange_arrives_in_the_queue(redis_url: str) -> None:
    queues = [Queue("pictures", MEDIA, routing_key="m.#"), Queue("other", MEDIA, routing_key="m.#")]
    app = App("queues", broker=redis_url, set_as_current=False, task_queues=queues)
    bind(app, ["pictures"])

    app.send_task("t", exchange="media", routing_key="m.small")

    assert app.broker.administration.depth("pictures").ready == 1
    assert app.broker.administration.depth("other").ready == 0
    app.close()


def test_a_call_that_names_a_queue_is_sent_to_its_exchange(redis_url: str) -> None:
    queues = [Queue("pictures", MEDIA, routing_key="m.p"), Queue("all", MEDIA, routing_key="m.#")]
    app = App("queues", broker=redis_url, set_as_current=False, task_queues=queues)
    bind(app, ["all"])

    app.send_task("t", queue="pictures")  # which is bound by this

    assert [app.broker.administration.depth(name).ready for name in ("pictures", "all")] == [1, 1]
    app.close()


def test_without_exchanges_a_call_is_sent_to_the_queue_itself(caplog: pytest.LogCaptureFixture) -> None:
    queues = [Queue("pictures", MEDIA, routing_key="m.#"), Queue("q", Exchange("q"), routing_key="q")]
    app = App("queues", broker="memory://queues", set_as_current=False, task_queues=queues)

    app.send_task("t", queue="pictures")
    bind(app, ["pictures", "q"])

    assert app.broker.administration.depth("pictures").ready == 1
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(
        "'pictures' is not bound to the exchange 'media' as task_queues says"
    )
    app.close()


def test_an_option_that_a_route_cannot_set_is_said(caplog: pytest.LogCaptureFixture) -> None:
    routes = {"t": {"queue": "q", "prioriti": 3, "time_limit": 5}}
    app = App("routes", broker="memory://routes", set_as_current=False, task_routes=routes)

    app.send_task("t")

    assert len(caplog.messages) == 2
    assert "'prioriti' to calls, which a route cannot set; did you mean 'priority'?" in caplog.messages[0]
    app.close()


CLIENT = """
import sys
if sys.argv[1] == "qcore":
    from qcore.celery import install
    install()
from tests.projects.with_queues import app, picture, reload
picture.delay(1)
app.send_task("with_queues.picture", (2,), queue="fresh")
app.send_task("with_queues.picture", (3,), queue="urgent")
for number in sys.argv[2:]: reload.delay(int(number))
"""


def client(kind: str, url: str, *numbers: int) -> None:
    words = ("-c", CLIENT, kind, *map(str, numbers))
    env = {**_environ(), **celery_env(url, "")}
    done = run_python(*words, env=env, imports="qctl" if kind == "qcore" else "celery")
    assert done.returncode == 0, done.stderr


def _environ() -> dict[str, str]:
    import os

    return {**os.environ, "RELOAD_LOG": "/dev/null"}


def declared(server: RabbitServer, vhost: str) -> dict[str, list[Any]]:
    """Queues, exchanges and bindings of a virtual host, without those of the bus and of delays."""
    what = {
        "queues": ("rabbit_amqqueue", "name, durable, auto_delete, exclusive, arguments"),
        "exchanges": ("rabbit_exchange", "name, type, durable, auto_delete, arguments"),
        "bindings": ("rabbit_binding", "source_name, destination_name, routing_key"),
    }
    found = {}
    for name, (module, columns) in what.items():
        rows = server.ask_rows(f'{module}:info_all(<<"{vhost}">>, [{columns}])')
        rows = [[re.sub(r"bcast\.[0-9a-f-]+", "bcast", text) for text in row] for row in rows]
        found[name] = sorted(row for row in rows if not _is_of_the_bus(row))
    return found


def _is_of_the_bus(row: list[str]) -> bool:
    bus = ("celeryev", "amq.", "qcore.", "celery_delayed", "reply.")
    return any(text.startswith(bus) or "pidbox" in text for text in row) or row[0] == ""


def test_rabbitmq_has_the_same_whether_celery_or_qcore_declared_it(
    rabbit_server: RabbitServer, processes: Processes
) -> None:
    found = {}
    for kind in ("celery", "qcore"):
        url = rabbit_server.add_vhost(f"declared-{kind}")
        start = processes.celery if kind == "celery" else processes.qctl
        words = ("-A", PROJECT, "worker", "-P", "solo", "-n", "w@test", "-l", "INFO")
        worker = start(*words, env={**celery_env(url, ""), "RELOAD_LOG": "/dev/null"})
        worker.wait_output("w@test ready", 60)
        client(kind, url)
        found[kind] = declared(rabbit_server, f"declared-{kind}")
        worker.term()
        worker.wait()
        rabbit_server.delete_vhost(f"declared-{kind}")

    for name, theirs in found["celery"].items():
        assert [one for one in found["qcore"][name] if one not in theirs] == [], name
        assert [one for one in theirs if one not in found["qcore"][name]] == [], name
    assert len(found["qcore"]["queues"]) == 9


@pytest.mark.parametrize("kind", ["redis", "rabbit", "sqlite"])
def test_a_broadcast_queue_brings_a_call_to_every_worker(
    kind: str, request: pytest.FixtureRequest, processes: Processes, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/q.sqlite3" if kind == "sqlite" else request.getfixturevalue(f"{kind}_url")
    log = tmp_path / "log"
    env = {**celery_env(url, ""), "RELOAD_LOG": str(log)}
    nodes = ["a@test", "b@test", *([] if kind == "sqlite" else ["c@test"])]
    for name in nodes:
        start = processes.celery if name == "c@test" else processes.qctl
        words = ("-A", PROJECT, "worker", "-P", "solo", "-n", name, "-Q", "reload", "-l", "INFO")
        start(*words, env=env).wait_output(f"{name} ready", 60)

    client("qcore", url, 1, 2)
    sent = [1, 2]
    if kind == "rabbit":  # on Redis, Celery's clients do not know that the exchange is of the type fanout
        client("celery", url, 3)
        sent.append(3)

    expected = Counter(f"{node} {number}" for node in nodes for number in sent)
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= expected.total())
    assert Counter(log.read_text().splitlines()) == expected
