"""A peer that is gone without a word: found within two heartbeats, and a slow one is not taken for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from qcore.brokers.redis import servers
from qcore.brokers.redis.delivery_scripts import CLAIM, SETTLE
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerDown, ConfigError
from tests.faults import size
from tests.faults.fleet import Fleet, no_surprises
from tests.faults.proxy import Proxy, proxied
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HEARTBEAT_S = 1.0
#: two, and what a busy machine needs; less than one of the usual heartbeats, so it was this one that told
FOUND_S = 2 * HEARTBEAT_S + 6.0
ROUNDS = size(2, 20)
AWAY = "cannot reach the broker"


def settings(**options: object) -> dict[str, str]:
    return {"FAULTS_SETTINGS": json.dumps({"broker_transport_options": options})}


@pytest.fixture
def proxy(fleet: Fleet) -> Iterator[Proxy]:
    with proxied(fleet.url, "redis") as made:
        yield made


def idle(fleet: Fleet, proxy: Proxy, number: int) -> None:
    proxy.hole(None)


def mid_claim(fleet: Fleet, proxy: Proxy, number: int) -> None:
    proxy.hole_at("down", f"evalsha:{CLAIM.sha}")
    fleet.publish_many(1, 0.0, f"claimed{number}-")
    wait_for(lambda: proxy.counts()["hole"] == number + 1)


def mid_ack(fleet: Fleet, proxy: Proxy, number: int) -> None:
    proxy.hole_at("down", f"evalsha:{SETTLE.sha}")
    fleet.publish_many(4, 0.05, f"acked{number}-")
    wait_for(lambda: proxy.counts()["hole"] == number + 1)


@pytest.mark.parametrize("dig", [idle, mid_claim, mid_ack])
def test_a_peer_that_is_gone_is_found_within_two_heartbeats(
    fleet: Fleet, proxy: Proxy, dig: Callable[[Fleet, Proxy, int], None]
) -> None:
    worker = fleet.worker(url=proxy.url, lease_s=10, env=settings(heartbeat_s=HEARTBEAT_S))
    fleet.publish_many(4)
    fleet.wait_done()
    found = []

    for number in range(ROUNDS):
        dig(fleet, proxy, number)
        began = time.monotonic()
        wait_for(lambda n=number: worker.output().count(AWAY) > n, 60, "the worker has noticed")
        found.append(time.monotonic() - began)
        proxy.clear()
        fleet.publish_many(1, 0.0, f"after{number}-")
        fleet.wait_done()

    worker.term()
    assert worker.wait(60) == 0
    no_surprises([worker])
    print(f"{dig.__name__}: found after {max(found):.2f} s at most: {' '.join(f'{t:.2f}' for t in found)}")
    assert max(found) < FOUND_S < servers.HEARTBEAT_S
    fleet.verdict().require(0)


def test_an_ear_finds_out_too(fleet: Fleet, proxy: Proxy) -> None:
    """It never writes, so it has to ask."""
    broker = open_broker(proxy.url, {"heartbeat_s": HEARTBEAT_S})
    ear = broker.subscribe("events", "#")
    proxy.hole(None)
    began = time.monotonic()

    with pytest.raises(BrokerDown, match="no answer for 1 s"):
        ear.get(100)

    assert time.monotonic() - began < FOUND_S < servers.HEARTBEAT_S
    proxy.clear()
    assert ear.get(0) is None
    broker.broadcast("events", "a", b"heard")
    assert ear.get(60) == b"heard"
    ear.close()
    broker.close()


def test_an_ear_that_nobody_speaks_to_stays_open(redis_url: str) -> None:
    broker = open_broker(redis_url, {"heartbeat_s": 1.0})
    ear = broker.subscribe("events", "#")

    assert ear.get(3.0) is None  # three heartbeats
    time.sleep(2.0)  # and two more in which nobody looks
    broker.broadcast("events", "a", b"heard")

    assert ear.get(60) == b"heard"
    ear.close()
    broker.close()


@pytest.mark.parametrize("value", ["soon", -1, float("inf")])
def test_a_heartbeat_is_a_number_of_seconds(value: object) -> None:
    with pytest.raises(ConfigError, match="heartbeat_s is a number of seconds"):
        open_broker("redis://127.0.0.1:1/0", {"heartbeat_s": value})


def test_a_server_that_is_slow_for_less_than_a_heartbeat_is_not_given_up(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    worker = fleet.worker(lease_s=100, env=settings(heartbeat_s=8.0))
    with redis_server.client() as client:
        client.execute_command("CLIENT", "PAUSE", "3000", "ALL")
    fleet.publish_many(4)
    fleet.wait_done()

    assert AWAY not in worker.output()
