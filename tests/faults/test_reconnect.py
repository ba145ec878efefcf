"""The connection ends in every way there is, again and again: the worker works again within seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import size
from tests.faults.fleet import Fleet, no_surprises
from tests.faults.proxy import Proxy, proxied
from tests.support.processes import Process, Processes
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: the lease, which nothing may sit out, and how soon a worker is back then, however busy the machine is
LEASE_S, BACK_S = 100, 30.0
ROUNDS = size(5, 25)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis of this test's own, that keeps what it has acknowledged."""
    made = RedisServer(require_server(), "--appendonly", "yes", "--appendfsync", "always")
    yield made
    made.stop()


@pytest.fixture
def outage(server: RedisServer, processes: Processes, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(server.url, processes, tmp_path)
    yield made
    made.close()


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with proxied(server.url, "plain") as made:
        yield made


def rounds(fleet: Fleet, worker: Process, count: int, harm: Callable[[], None], busy: bool) -> list[float]:
    """Do harm that many times, idle or with tasks under way; how long until a task was run again."""
    took = []
    for number in range(count):
        if busy:
            fleet.publish_many(20, 0.02, f"busy{number}-")
            fleet.wait_started(21 * number + 4)
        harm()
        began = time.monotonic()
        fleet.app.close()  # the test's own connections are not what is tested
        fleet.publish_many(1, 0.0, f"probe{number}-")
        probe = f"probe{number}-0"
        wait_for(lambda probe=probe: probe in fleet.history.tasks and fleet.history.tasks[probe].finished, 60)
        took.append(time.monotonic() - began)
    fleet.wait_done()
    assert worker.is_running
    no_surprises([worker])
    print(f"back after {max(took):.2f} s at most of {count}: {' '.join(f'{t:.2f}' for t in took)}")
    return took


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_worker_is_back_after_resets(outage: Fleet, proxy: Proxy, busy: bool) -> None:
    worker = outage.worker(url=proxy.url, lease_s=LEASE_S)

    took = rounds(outage, worker, ROUNDS, proxy.reset, busy)

    assert max(took) < BACK_S
    outage.verdict().require(0)


def test_a_worker_is_back_after_three_resets_in_a_row(outage: Fleet, proxy: Proxy) -> None:
    def thrice() -> None:
        for _ in range(3):
            proxy.reset()
            opened = proxy.counts()["connections"]
            wait_for(lambda opened=opened: proxy.counts()["connections"] > opened, 60)

    worker = outage.worker(url=proxy.url, lease_s=LEASE_S)

    assert max(rounds(outage, worker, size(2, 10), thrice, busy=True)) < BACK_S
    outage.verdict().require(0)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_worker_is_back_after_a_hole(outage: Fleet, proxy: Proxy, busy: bool) -> None:
    def hole() -> None:
        proxy.hole(2.0)
        time.sleep(2.0)  # the outage itself

    worker = outage.worker(url=proxy.url, lease_s=LEASE_S)

    assert max(rounds(outage, worker, size(1, 5), hole, busy)) < BACK_S
    outage.verdict().require(0)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_worker_is_back_after_its_clients_were_killed(
    outage: Fleet, server: RedisServer, busy: bool
) -> None:
    def kill() -> None:
        with server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    worker = outage.worker(lease_s=LEASE_S)

    assert max(rounds(outage, worker, ROUNDS, kill, busy)) < BACK_S
    outage.verdict().require(0)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_worker_is_back_after_its_server_was_killed(outage: Fleet, server: RedisServer, busy: bool) -> None:
    worker = outage.worker(lease_s=LEASE_S)

    assert max(rounds(outage, worker, size(3, 20), server.restart, busy)) < BACK_S
    outage.verdict().require(0)
