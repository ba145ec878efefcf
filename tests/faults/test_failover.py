"""Two servers in one broker URL: the worker goes to the one that lives, and is quick about it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcore import App
from qcore.brokers.contract.records import Message
from qcore.brokers.redis.servers import HEARTBEAT_S
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerDown
from tests.faults import FULL, size
from tests.faults.fleet import Fleet, no_surprises
from tests.faults.history import note_all
from tests.faults.proxy import proxied
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: half of the heartbeat, which nothing may sit out here
SWITCH_S = 50.0
#: of a server that is there; the dead ones of these tests end their connections
PATIENT = {"FAULTS_SETTINGS": json.dumps({"broker_transport_options": {"heartbeat_s": 100.0}})}
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0")


@pytest.fixture
def servers() -> Iterator[list[RedisServer]]:
    """Two, of this test's own, that keep what they have acknowledged."""
    made = [RedisServer(require_server(), *DURABLE) for _ in range(2)]
    yield made
    for server in made:
        server.stop()


@pytest.fixture
def fleet(servers: list[RedisServer], processes: Processes, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(servers[0].url, processes, tmp_path)
    yield made
    made.close()


def both(servers: list[RedisServer]) -> str:
    return ";".join(server.url for server in servers)


def put(fleet: Fleet, server: RedisServer, count: int, prefix: str, seconds: float = 0.0) -> None:
    """That many tasks, to this server."""
    messages = {f"{prefix}{i}": fleet.work(f"{prefix}{i}", seconds) for i in range(count)}
    broker = open_broker(server.url)
    broker.publish(list(messages.values()))
    broker.close()
    note_all(fleet.path, "published", messages)


def has_finished(fleet: Fleet, ident: str) -> bool:
    task = fleet.history.tasks.get(ident)
    return task is not None and bool(task.finished)


def wait_ran(fleet: Fleet, ident: str, since: float) -> float:
    """Until this task has run; how long that took."""
    wait_for(lambda: has_finished(fleet, ident), 60, f"{ident} has run")
    return time.monotonic() - since


def test_a_worker_goes_to_the_server_that_lives(fleet: Fleet, servers: list[RedisServer]) -> None:
    worker = fleet.worker(url=both(servers), env=PATIENT)
    took = []

    for number in range(size(5, 20)):
        dying, living = servers[number % 2], servers[1 - number % 2]
        put(fleet, living, 3, f"waits{number}-")
        put(fleet, dying, 10, f"busy{number}-", 0.02)
        wait_for(lambda n=number: has_finished(fleet, f"busy{n}-1"), 60, "the worker is at this server")
        dying.kill9()
        took.append(wait_ran(fleet, f"waits{number}-2", time.monotonic()))
        dying.start()

    # What the last one to die still has is done by a worker of its own.
    others = [fleet.worker(url=server.url) for server in servers]
    wait_for(fleet.history.all_finished, 60, "all tasks finished")
    for one in (worker, *others):
        one.term()
        assert one.wait(60) == 0
    no_surprises([worker])
    print(f"switched after {max(took):.2f} s at most of {len(took)}: {' '.join(f'{t:.2f}' for t in took)}")
    print(fleet.verdict())
    assert max(took) < SWITCH_S
    fleet.verdict().require()


@pytest.mark.parametrize("first", [0, 1] if FULL else [1])
def test_a_worker_is_back_when_either_server_is(fleet: Fleet, servers: list[RedisServer], first: int) -> None:
    worker = fleet.worker(url=both(servers), env=PATIENT)
    for server in servers:
        server.kill9()
    worker.wait_output("cannot reach the broker", 60)
    time.sleep(size(4, 10))  # the outage itself

    servers[first].start()
    began = time.monotonic()
    put(fleet, servers[first], 1, "probe")
    took = wait_ran(fleet, "probe0", began)

    print(f"back after {took:.2f} s")
    assert took < SWITCH_S
    assert worker.output().count("cannot reach the broker") == 1
    worker.term()
    assert worker.wait(60) == 0
    no_surprises([worker])


def test_a_server_that_vanished_is_left_for_the_next(fleet: Fleet, servers: list[RedisServer]) -> None:
    env = {"FAULTS_SETTINGS": json.dumps({"broker_transport_options": {"heartbeat_s": 1.0}})}
    with proxied(servers[0].url) as proxy:
        fleet.worker(url=f"{proxy.url};{servers[1].url}", env=env)
        put(fleet, servers[0], 1, "first")
        wait_ran(fleet, "first0", 0.0)
        put(fleet, servers[1], 1, "second")

        proxy.hole(None)
        took = wait_ran(fleet, "second0", time.monotonic())

    print(f"found and left after {took:.2f} s")
    # Two heartbeats to miss it, and its share of broker_connection_timeout to give it up.
    assert took < HEARTBEAT_S  # the usual one, of which it would need more than one


def test_control_and_results_follow_the_worker(fleet: Fleet, servers: list[RedisServer]) -> None:
    fleet.worker(url=both(servers), name="w@test")
    app = App("client", broker=both(servers), set_as_current=False)
    assert app.send_task("faults.add", (1, 2)).get(timeout=60) == 3

    servers[0].kill9()

    assert app.send_task("faults.add", (3, 4)).get(timeout=60) == 7
    wait_for(lambda: app.control.ping(timeout=1) == [{"w@test": {"ok": "pong"}}], 60, "the worker answers")
    assert app.broker.info()["port"] == servers[1].port
    app.close()


# --- a replica is not a primary


@pytest.fixture
def replica(servers: list[RedisServer]) -> RedisServer:
    """The second server, following the first."""
    follow(servers[1], servers[0])
    return servers[1]


def follow(replica: RedisServer, primary: RedisServer) -> None:
    with replica.client() as client:
        client.replicaof("127.0.0.1", primary.port)
        wait_for(lambda: client.info("replication").get("master_link_status") == "up", 60, "in step")


def test_a_replica_is_not_taken_for_a_primary(servers: list[RedisServer], replica: RedisServer) -> None:
    broker = open_broker(f"{replica.url};{servers[0].url}")

    broker.publish([Message(b"m", queue="q")])

    assert broker.info()["port"] == servers[0].port
    assert open_broker(servers[0].url).administration.peek("q") == [b"m"]
    with pytest.raises(BrokerDown, match="is a replica"):
        open_broker(f"{replica.url};redis://127.0.0.1:1/0").check()
    broker.close()


def test_a_primary_that_became_a_replica_is_left(servers: list[RedisServer], replica: RedisServer) -> None:
    broker = open_broker(f"{servers[0].url};{replica.url}")
    broker.publish([Message(b"first", queue="q")])
    with replica.client() as client:
        wait_for(lambda: client.llen("q") == 1)
        client.replicaof("NO", "ONE")
    follow(servers[0], replica)

    with pytest.raises(BrokerDown, match="READONLY"):
        broker.publish([Message(b"refused", queue="q")])
    broker.publish([Message(b"second", queue="q")])

    assert broker.info()["port"] == replica.port
    assert broker.administration.peek("q") == [b"first", b"second"]
    broker.close()
