"""Brokers through kombu, of files, SQL, SQS, Kafka and others: tasks of clients and workers of both kinds."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import pytest

from qcore.app.app import App
from qcore.brokers.contract.records import Settle, Settlement
from qcore.brokers.kombu import long_polls
from qcore.errors import BrokerDown
from tests.support.cloud_servers import client_environment
from tests.support.processes import Process, Processes, run_python
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PROJECT = """
import json, os, time
from celery import Celery

app = Celery("carried", broker=os.environ["BROKER"], backend=os.environ["RESULTS"])
app.conf.update(json.loads(os.environ["SETTINGS"]), task_acks_late=True, worker_prefetch_multiplier=1)


@app.task(name="carried.add")
def add(x, y):
    return x + y


@app.task(name="carried.hold")
def hold(folder, seconds):
    with open(os.path.join(folder, "runs"), "a") as file:
        file.write("run\\n")
    until = time.monotonic() + seconds
    while time.monotonic() < until and not os.path.exists(os.path.join(folder, "release")):
        time.sleep(0.05)
    return "held"
"""
CLIENT = """
import json
from celery import chain, group
from carried import add
found = [add.delay(1, 2).get(timeout=60)]
found += group(add.s(i, 1) for i in range(3)).apply_async().get(timeout=60)
found += [chain(add.s(1, 1), add.s(3)).apply_async().get(timeout=60)]
found += [add.apply_async((4, 4), countdown=1).get(timeout=60)]
print(json.dumps(found))
"""
FOUND = [3, 1, 2, 3, 5, 8]
#: without it Celery's worker ends at the first empty queue: Python's exception had another name when kombu's
#: transport was written
EMPTY_OF_PYRO = """
from queue import Empty
from Pyro4.util import SerializerBase
SerializerBase.register_dict_to_class("_queue.Empty", lambda name, fields: Empty())
"""
#: what the programs of a broker import
IMPORTED = {
    "sqs": ("kombu.transport.SQS", "boto3"),
    "sqla+sqlite": ("kombu.transport.sqlalchemy", "sqlalchemy.dialects.sqlite"),
    "filesystem": ("kombu.transport.filesystem",),
}
#: seconds after which SQS gives a message that was not acknowledged to another worker
VISIBLE_AFTER_S = 4


@pytest.fixture(params=["filesystem", "sqla+sqlite", "sqs"])
def environment(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "carried.py").write_text(PROJECT)
    options: dict[str, Any] = {}
    broker = f"{request.param}://"
    if request.param == "filesystem":
        folders = {name: str(tmp_path / name) for name in ("data", "control")}
        for folder in folders.values():
            Path(folder).mkdir()
        options = {
            "data_folder_in": folders["data"],
            "data_folder_out": folders["data"],
            "control_folder": folders["control"],
        }
    elif request.param in ("etcd_url", "azure_queues_url"):
        broker, options = request.getfixturevalue(request.param), {"polling_interval": 0.1}
    elif request.param == "kafka_url":
        broker, options = request.getfixturevalue(request.param), {"wait_time_seconds": 0.5}
    elif request.param == "pyro_url":
        broker = request.getfixturevalue(request.param)
    elif request.param == "sqla+sqlite":
        broker += f"/{tmp_path}/broker.db"
    else:
        url = request.getfixturevalue("amazon_url")
        broker = "sqs://key:secret@" + url.removeprefix("http://")
        options = {
            "region": "us-east-1",
            "is_secure": False,
            "queue_name_prefix": f"{tmp_path.name}-",
            "visibility_timeout": VISIBLE_AFTER_S,
            "polling_interval": 0.1,
        }
    more = client_environment()
    return {
        **more,
        "PYTHONPATH": os.pathsep.join((str(tmp_path), more["PYTHONPATH"])),
        "BROKER": broker,
        "RESULTS": redis_url,
        "SETTINGS": json.dumps({"broker_transport_options": options}),
    }


def imported(env: dict[str, str]) -> tuple[str, ...]:
    return IMPORTED.get(env["BROKER"].partition("://")[0], ())


def start(kind: str, processes: Processes, env: dict[str, str]) -> Process:
    processes.also = imported(env)
    words = ("-A", "carried", "worker", "-c", "1", "-n", f"{kind}@carried", "-l", "INFO")
    worker = (processes.celery if kind == "celery" else processes.qctl)(*words, env=env)
    worker.wait_output("ready")
    return worker


def run(kind: str, env: dict[str, str], lines: str) -> Any:
    """What a client prints, as JSON."""
    install = "" if kind == "celery" else "from qcore.celery import install; install()\n"
    imports = "celery" if kind == "celery" else "qctl"
    more: dict[str, Any] = {"imports": imports, "also": imported(env), "timeout_s": 200}
    done = run_python("-c", install + lines, env={**os.environ, **env}, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("worker", "clients"), [("qcore", ("celery", "qcore")), ("celery", ("qcore",))])
def test_tasks_of_clients_of_both_kinds_are_run(
    worker: str, clients: tuple[str, ...], environment: dict[str, str], processes: Processes, tmp_path: Path
) -> None:
    started = start(worker, processes, environment)

    assert {client: run(client, environment, CLIENT) for client in clients} == dict.fromkeys(clients, FOUND)
    if "control_folder" in environment["SETTINGS"]:
        assert [*(tmp_path / "control").iterdir()]

    if worker == "qcore":
        started.term()
        assert started.wait() == 0, started.output()


@pytest.mark.parametrize("environment", ["etcd_url", "azure_queues_url"], indirect=True)
def test_tasks_are_run_through_other_servers(environment: dict[str, str], processes: Processes) -> None:
    start("qcore", processes, environment)

    assert {kind: run(kind, environment, CLIENT) for kind in ("celery", "qcore")} == dict.fromkeys(
        ("celery", "qcore"), FOUND
    )


@pytest.mark.parametrize("environment", ["kafka_url", "pyro_url"], indirect=True)
@pytest.mark.parametrize(("worker", "clients"), [("qcore", ("celery", "qcore")), ("celery", ("qcore",))])
def test_tasks_are_run_through_brokers_that_carry_no_requests(
    worker: str, clients: tuple[str, ...], environment: dict[str, str], processes: Processes, tmp_path: Path
) -> None:
    if worker == "celery":
        if environment["BROKER"].startswith("pyro"):
            (tmp_path / "carried.py").write_text(PROJECT + EMPTY_OF_PYRO)
        environment["BROKER"] = environment["BROKER"].replace("confluentkafka", "kafka")
    started = start(worker, processes, environment)

    assert {client: run(client, environment, CLIENT) for client in clients} == dict.fromkeys(clients, FOUND)

    if worker == "qcore":
        started.term()
        assert started.wait() == 0, started.output()


@pytest.fixture
def client(environment: dict[str, str]) -> Iterator[App]:
    """A client in this process."""
    settings = json.loads(environment["SETTINGS"])
    app = App("carried", broker=environment["BROKER"], backend=environment["RESULTS"], **settings)
    yield app
    app.close()


def held(client: App, folder: Path) -> None:
    """Publish a task, and wait until it runs."""
    client.send_task("carried.hold", (str(folder), 60))
    runs = folder / "runs"
    wait_for(lambda: runs.exists() and runs.read_text(), 60)


def add(client: App) -> Any:
    return client.send_task("carried.add", (1, 2)).get(timeout=60)


def test_a_message_is_acknowledged_after_its_run(
    environment: dict[str, str], client: App, processes: Processes, tmp_path: Path
) -> None:
    """A worker that stops before its task is done gives it back."""
    first = start("qcore", processes, environment)
    held(client, tmp_path)

    first.term(2)
    first.wait_output("warm shutdown")
    first.term(2)  # the second one ends the running tasks
    first.wait()
    start("qcore", processes, environment)

    wait_for(lambda: (tmp_path / "runs").read_text() == "run\n" * 2, 60)


def test_what_becomes_of_the_task_of_a_killed_worker(
    environment: dict[str, str], client: App, processes: Processes, tmp_path: Path
) -> None:
    """SQS gives it to another worker after its visibility time-out. The others lose it, as with Celery."""
    first = start("qcore", processes, environment)
    held(client, tmp_path)

    first.kill9()
    start("qcore", processes, environment)
    (tmp_path / "release").touch()

    if environment["BROKER"].startswith("sqs"):
        wait_for(lambda: (tmp_path / "runs").read_text() == "run\n" * 2, 60)
    assert add(client) == 3
    if not environment["BROKER"].startswith("sqs"):
        assert (tmp_path / "runs").read_text() == "run\n"


@pytest.mark.parametrize("environment", ["filesystem"], indirect=True)
def test_files_that_are_no_messages_are_lost_and_stop_no_worker(
    environment: dict[str, str], client: App, processes: Processes, tmp_path: Path
) -> None:
    worker = start("qcore", processes, environment)
    lost = "a message of the queue 'celery' is lost, since kombu cannot read it"

    for number, text in enumerate(['{"body": 5', "5", "{}"]):
        (tmp_path / "data" / f"{number}_x.celery.msg").write_text(text)
        wait_for(lambda done=number + 1: worker.output().count(lost) >= done, 60, f"{text!r} is lost")

    assert add(client) == 3


def test_sqs_that_cannot_be_reached_is_an_outage() -> None:
    options = {"region": "us-east-1", "is_secure": False}
    app = App("x", broker="sqs://key:secret@127.0.0.1:1", broker_transport_options=options)

    with pytest.raises(BrokerDown, match=r"127\.0\.0\.1:1"):
        app.broker.check()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch, amazon_url: str) -> list[tuple[str, int]]:
    """The queue and the seconds of each request for messages, as the server gets it."""
    from moto.sqs.models import SQSBackend

    receive, seen = SQSBackend.receive_message, list[tuple[str, int]]()

    def recorded(self: Any, queue: str, count: int, wait_s: int, *more: Any) -> Any:
        seen.append((queue, wait_s))
        return receive(self, queue, count, wait_s, *more)

    monkeypatch.setattr(SQSBackend, "receive_message", recorded)
    return seen


@pytest.mark.parametrize("environment", ["sqs"], indirect=True)
@pytest.mark.parametrize("wait_s", [None, 2])
@pytest.mark.parametrize("kind", ["celery", "qcore"])
def test_requests_for_messages_wait_at_sqs(
    kind: str,
    wait_s: int | None,
    environment: dict[str, str],
    processes: Processes,
    waits: list[tuple[str, int]],
    client: App,
) -> None:
    settings = json.loads(environment["SETTINGS"])
    if wait_s:
        settings["broker_transport_options"]["wait_time_seconds"] = wait_s
    queue = settings["broker_transport_options"]["queue_name_prefix"] + "celery"

    start(kind, processes, {**environment, "SETTINGS": json.dumps(settings)})
    wait_for(lambda: [one for one in waits if one[0] == queue], what="a request")
    idle = [*waits]

    assert client.send_task("carried.add", (1, 2)).get(timeout=60) == 3
    assert {seconds for name, seconds in idle if name == queue} == {wait_s or 10}


def sqs_app(url: str, prefix: str, **options: Any) -> App:
    options |= {"region": "us-east-1", "is_secure": False, "queue_name_prefix": prefix}
    return App(
        "x", broker="sqs://key:secret@" + url.removeprefix("http://"), broker_transport_options=options
    )


def test_a_message_wakes_a_consumer_that_waits_at_sqs(
    amazon_url: str, tmp_path: Path, waits: list[tuple[str, int]]
) -> None:
    app = sqs_app(amazon_url, f"{tmp_path.name}-", polling_interval=50)
    consumer = app.broker.consumer(["one", "two"])
    assert consumer.claim(9) == []
    consumer.arm()
    wait_for(lambda: len(waits) == 2, what="a request for each queue")
    assert consumer.claim(9) == []

    for number in range(3):
        app.send_task("t", (number,), queue="one")
    (fd,) = select.select(consumer.fds(), [], [], 30)[0]
    consumer.wake(fd)

    found = consumer.claim(9)
    assert len(found) == 3 and not select.select(consumer.fds(), [], [], 0)[0]
    assert consumer.settle([Settlement(one, Settle.ACK) for one in found]) == []
    consumer.close()
    app.close()


@pytest.mark.parametrize("why", ["left", "left before it arrives", "full"])
def test_a_message_that_a_worker_does_not_claim_goes_back(
    amazon_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """It leaves the queue, also while a request is under way; or it stays full."""
    monkeypatch.setattr(long_polls, "HELD_S", 0.2 if why == "full" else 600.0)
    app = sqs_app(amazon_url, f"{tmp_path.name}-", wait_time_seconds=20)
    one, other = (app.broker.consumer(["q"]) for _ in range(2))
    one.arm()
    if why == "left before it arrives":
        one.set_queues(())
    app.send_task("t", queue="q")
    if why != "left before it arrives":
        assert select.select(one.fds(), [], [], 30)[0]
        one.disarm() if why == "full" else one.set_queues(())

    other.arm()
    assert select.select(other.fds(), [], [], 30)[0]

    assert len(other.claim(1)) == 1 and one.claim(1) == []
    for consumer in (one, other):
        consumer.close()
    app.close()


def test_a_request_that_fails_at_sqs_is_an_outage(
    amazon_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto.sqs.exceptions import QueueDoesNotExist
    from moto.sqs.models import SQSBackend

    app = sqs_app(amazon_url, f"{tmp_path.name}-")
    consumer = app.broker.consumer(["q"])

    def fail(*_: Any) -> None:
        raise QueueDoesNotExist()

    with monkeypatch.context() as patched:
        patched.setattr(SQSBackend, "receive_message", fail)
        consumer.arm()
        assert select.select(consumer.fds(), [], [], 30)[0]
        consumer.wake(consumer.fds()[0])
        with pytest.raises(BrokerDown, match="does not exist"):
            consumer.claim(1)

    consumer.reconnect()
    consumer.arm()
    app.send_task("t", queue="q")
    assert select.select(consumer.fds(), [], [], 30)[0]
    assert len(consumer.claim(1)) == 1
    consumer.close()
    app.close()


@pytest.mark.parametrize("scheme", ["qpid", "librabbitmq"])
def test_a_transport_that_python_3_cannot_start_is_refused_alike(scheme: str) -> None:
    """librabbitmq cannot be built for Python 3.11, nor is there a Qpid client."""
    told = []
    for kind in (celery.Celery, App):
        app: Any = kind("refused", broker=f"{scheme}://guest:guest@localhost:1//", set_as_current=False)
        with pytest.raises(Exception, match=r"qpidtoollibs|librabbitmq") as refused:
            app.send_task("carried.add", retry=False)
        told.append(str(refused.value.__cause__ or refused.value))

    assert told[0] == told[1]
