"""What workers that have nothing to do ask of Redis, and that this makes nothing later."""

from __future__ import annotations

import heapq
import resource
import time
from collections import Counter

import pytest

from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.records import Message, Settle, Settlement
from qcore.brokers.registry import open_broker
from qcore.worker.services.lease import LeaseKeeper
from tests.contracts.consuming import take, wait_woken
from tests.faults import FULL
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

#: per 5 s; those that are inside of scripts are part of their script
MOST_COMMANDS = 4.0
#: for the whole number of a short look: what comes every 10 s may come twice
SLACK = 2
WHOLE = ("evalsha", "eval", "publish", "ping", "sadd", "blmove", "subscribe", "psubscribe", "client|unblock")


def commands(server: RedisServer) -> Counter[str]:
    """What clients have sent. None of these is called by a script that an idle worker runs, but PUBLISH."""
    with server.client() as client:
        stats = client.info("commandstats")
    return Counter({n: stats.get(f"cmdstat_{n}", {}).get("calls", 0) for n in WHOLE})


def test_an_idle_worker_asks_little(redis_url: str, redis_server: RedisServer, processes: Processes) -> None:
    seconds = 60.0 if FULL else 5.0
    processes.start_qcore_worker(redis_url, "-c", "1", "-P", "threads", name="w@test")
    time.sleep(1.0)  # the turns of the start
    before = commands(redis_server)

    time.sleep(seconds)

    found = commands(redis_server) - before
    print(dict(found), f"{found.total() / seconds * 5:.1f} per 5 s")
    assert 0 < found.total() <= MOST_COMMANDS * seconds / 5 + SLACK


def test_a_message_that_rang_while_nobody_listened_is_found_at_once(redis_url: str) -> None:
    broker = open_broker(redis_url)
    consumer = broker.consumer(["q"])
    assert consumer.claim(1) == []
    broker.publish([Message(b"urgent", queue="q", priority=3)])  # only the bell tells, and nobody hears it

    wait_woken(consumer, 1.0)
    (got,) = take(consumer, 1, timeout_s=0.5)

    assert got.raw == b"urgent"
    consumer.settle([Settlement(got, Settle.ACK)])
    consumer.claim(1)
    consumer.arm()
    assert consumer.idle_s() > 4


def test_who_looks_for_the_dead_knows_when_one_can_die(redis_url: str, redis_server: RedisServer) -> None:
    def dies() -> Consumer:
        found = open_broker(redis_url, {"lease_s": 5.0}).consumer(["q"])
        found.claim(1)
        return found

    broker = open_broker(redis_url, {"lease_s": 10.0})
    broker.publish([Message(b"held", queue="q")])
    dead, alive = dies(), broker.consumer(["other"])
    keeper = LeaseKeeper(alive, broker, "w@test", "instance", dict)
    began = time.monotonic()
    keeper.start()
    try:
        assert alive.reap_in_s is not None and 1.0 < alive.reap_in_s <= 5.0
        wait_for(lambda: keeper.reaped)
        took_s = time.monotonic() - began
        # A wait of the dead may still take something: until it has ended, looks are frequent again.
        assert alive.reap_in_s == 0.0
        assert took_s > 1.0, took_s
        assert broker.administration.depth("q").ready == 1
    finally:
        keeper.stop()
        alive.close()
        dead.close()


@pytest.mark.skipif(not FULL, reason="a large fleet")
@pytest.mark.timeout(300)
def test_a_thousand_idle_workers_leave_the_server_alone(redis_url: str, redis_server: RedisServer) -> None:
    """Their consumers and keepers; heartbeats, ears and waits (1.8 commands in 5 s) are not in it."""
    count, seconds = 1000, 60.0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    broker = open_broker(redis_url)
    plan: list[tuple[float, int, str, Consumer, LeaseKeeper]] = []
    now = time.monotonic()
    for number in range(count):
        consumer = broker.consumer(["celery"])
        consumer.claim(1)
        consumer.arm()
        keeper = LeaseKeeper(consumer, broker, f"w{number}@test", f"i{number}", dict)
        keeper._turn(reap=True)
        first = now + 20 + 10 * number / count
        plan += [(first, number, what, consumer, keeper) for what in ("claim", "renew", "reap")]
    heapq.heapify(plan)

    def turn() -> None:
        due, number, what, consumer, keeper = heapq.heappop(plan)
        time.sleep(max(0.0, due - time.monotonic()))
        at = max(due, time.monotonic() - 1.0)
        if what == "claim":
            consumer.claim(1)
            consumer.arm()
            at += max(consumer.idle_s(), 0.05)
        else:
            keeper._turn(reap=what == "reap", renew=what == "renew")
            at += keeper._every_s if what == "renew" else min(keeper._reap_every_s(), 30.0)
        heapq.heappush(plan, (at, number, what, consumer, keeper))

    def used() -> float:
        with redis_server.client() as client:
            cpu = client.info("cpu")
        return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])

    while plan[0][0] < now + 45:
        turn()
    before, cpu, began = commands(redis_server), used(), time.monotonic()
    while time.monotonic() < began + seconds:
        turn()
    took_s = time.monotonic() - began
    found, share = commands(redis_server) - before, (used() - cpu) / took_s
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    each = found.total() / count / took_s * 5
    print(dict(found), f"{each:.2f} commands per worker in 5 s, {share:.1%} of a core")
    assert each <= 2.5 and share <= 0.25


def test_a_pause_that_ends_by_itself_is_looked_for_every_second(redis_url: str) -> None:
    broker = open_broker(redis_url)
    consumer = broker.consumer(["q"])
    broker.administration.pause("q", for_s=1000)
    consumer.claim(1)
    consumer.arm()
    consumer.idle_s()  # the look that follows the subscription

    assert 0.5 < consumer.idle_s() <= 1.0
