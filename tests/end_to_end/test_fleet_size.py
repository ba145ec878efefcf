"""The control bus with many workers: simulated ones (support/simulator.py), and real ones beside them."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from qcore.app.app import App
from qcore.brokers.registry import open_broker
from qcore.worker.services.lease import LeaseKeeper
from qctl import exit_codes
from tests.faults import FULL
from tests.qctl.cli.test_command_line import here
from tests.support.processes import Process, Processes
from tests.support.redis_server import RedisServer
from tests.support.simulator import node_of

COUNT = 1000 if FULL else 200
ROUNDS = 20 if FULL else 3
SILENT = COUNT // 10
REAL = 4 if FULL else 1

Simulate = Callable[..., Process]


@pytest.fixture(scope="module")
def server(redis_server: RedisServer) -> RedisServer:
    if redis_server.process is None:
        redis_server.start()
    return redis_server


@pytest.fixture
def simulate(server: RedisServer, processes: Processes) -> Iterator[Simulate]:
    """Start so many workers that are not there, with the manners that are named."""
    with server.client() as client:
        client.flushall()

    def start(*words: str) -> Process:
        fleet = processes.start(
            sys.executable, "-m", "tests.support.simulator", server.url, *words, name="fleet"
        )
        fleet.wait_output("ready")
        return fleet

    yield start


def test_a_large_fleet_answers_in_time_and_completely(
    server: RedisServer, simulate: Simulate, processes: Processes
) -> None:
    simulate(str(COUNT))
    for i in range(REAL):
        processes.start_qcore_worker(server.url, "-c", "1", "-P", "threads", name=f"real{i}@test")

    took = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        ping = here("inspect", "ping", "-o", "name", "-t", "90", QCTL_BROKER_URL=server.url)
        took.append(time.monotonic() - began)
        assert (ping.returncode, len(ping.stdout.split())) == (exit_codes.OK, COUNT + REAL), ping.stderr
    status = json.loads(here("status", "-o", "json", "-t", "90", QCTL_BROKER_URL=server.url).stdout)

    assert max(took) < 45, took  # it ends with the last answer and not with the time-out
    assert {i["state"] for i in status["items"]} == {"online"}
    assert len(status["items"]) == COUNT + REAL


def test_of_a_large_fleet_exactly_the_silent_are_named_at_the_deadline(
    server: RedisServer, simulate: Simulate
) -> None:
    simulate(str(COUNT), "--silent", str(SILENT))
    expected = {node_of(i) for i in range(COUNT - SILENT, COUNT)}

    app = App("asker", broker=server.url)
    for deadline_s in (0.7, 3.0, 10.0):  # on a busy machine the others may need more than the first
        answers = app.control.ask("ping", timeout_s=deadline_s)
        status = here("status", "-o", "json", "-t", str(deadline_s), QCTL_BROKER_URL=server.url)
        if len(answers.replies) == COUNT - SILENT and status.stdout.count("online") == COUNT - SILENT:
            break
    app.close()

    assert deadline_s <= answers.took_s < 3 * deadline_s  # and not so long for each of the silent
    assert {s.node for s in answers.silent} == expected
    assert all(s.age_s is not None and s.age_s < 90 for s in answers.silent)
    assert len(answers.replies) == COUNT - SILENT
    assert status.returncode == exit_codes.PARTIAL
    states = {i["node"]: i["state"] for i in json.loads(status.stdout)["items"]}
    assert {n for n, state in states.items() if state == "silent"} == expected
    assert len(states) == COUNT
    named = set(re.findall(r"(sim\d+@fleet) is silent: .*last heartbeat \d+ s ago", status.stderr))
    assert named == expected


def test_bad_answers_are_not_taken_for_answers(server: RedisServer, simulate: Simulate) -> None:
    simulate("6", "--garbage", "1", "--wrong-ticket", "1", "--twice", "1", "--dies", "1", "--delay", "1:0.1")
    app = App("asker", broker=server.url)

    for deadline_s in (0.4, 2.0, 10.0):  # on a busy machine the others may need more than the first
        answers = app.control.ask("ping", timeout_s=deadline_s)
        if len(answers.replies) == 3:
            break

    # Dealt out from the end, in the order of the simulator's options: delay, garbage, twice, ...
    assert sorted(answers.replies) == [node_of(i) for i in (0, 3, 5)]
    assert [s.node for s in answers.silent] == [node_of(i) for i in (1, 2, 4)]
    assert answers.malformed == 2
    assert not answers.twins
    app.close()


def test_a_fleet_is_read_in_a_few_round_trips(server: RedisServer, simulate: Simulate) -> None:
    """Not one for each worker: reading replies one by one takes longer than answering them."""
    simulate(str(COUNT))
    app = App("asker", broker=server.url)
    app.control.ask("ping", timeout_s=60)
    with server.client() as client:
        before = client.info("commandstats")
        app.control.ask("ping", timeout_s=60)
        after = client.info("commandstats")
    app.close()

    def calls(stats: dict[str, dict[str, int]], name: str) -> int:
        return stats.get(f"cmdstat_{name}", {}).get("calls", 0)

    reads = sum(calls(after, n) - calls(before, n) for n in ("brpop", "rpop", "hgetall"))
    assert reads < COUNT / 4


def test_the_larger_the_fleet_the_rarer_each_looks_for_the_dead(memory_url: str) -> None:
    """Together they look about 8 times a second, and no worker less than every 15 s."""
    broker = open_broker(memory_url)
    consumer = broker.consumer(["q"])
    keeper = LeaseKeeper(consumer, broker, "w1@test", "instance", dict)

    def pauses(owners: int) -> list[float]:
        consumer.owners = owners
        return [keeper._reap_every_s() for _ in range(50)]

    assert set(pauses(1)) == set(pauses(4)) == {0.5}
    assert all(1.0 <= pause <= 3.0 for pause in pauses(16))
    assert all(5.0 <= pause <= 15.0 for pause in pauses(1000))
    assert len(set(pauses(1000))) > 10  # not all at once
    consumer.close()
    broker.close()
