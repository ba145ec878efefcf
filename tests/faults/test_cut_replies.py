"""Connections that end at the worst moment: the server has acted and nobody was told, or was never asked."""

from __future__ import annotations

import time

import pytest

from qcore.brokers.contract.records import Message
from qcore.brokers.redis.delivery_scripts import CLAIM, SETTLE
from qcore.brokers.redis.scripts import ENROL, RENEW
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerDown
from tests.contracts.consuming import end, message, take, text_of, texts
from tests.faults import size
from tests.faults.fleet import Fleet, no_surprises
from tests.faults.proxy import Proxy, proxied
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.timeout(180)]

CUTS = size(20, 200)
CUTS_RABBIT = size(5, 50)


def name_of(script: object) -> str:
    return f"evalsha:{script.sha}"  # type: ignore[attr-defined]


def cut_while_working(fleet: Fleet, way: str, name: str, cuts: int, protocol: str) -> int:
    """Cut that many connections of one worker while tasks pass through it; the cuts that happened."""
    with proxied(fleet.url, protocol) as proxy:
        worker = fleet.worker(url=proxy.url, lease_s=10)
        fleet.publish_many(10, 0.002, "first")  # so that the server knows the scripts
        fleet.wait_done()
        proxy.cut(way, name, every=2, times=cuts)
        for share in range(100):
            fleet.publish_many(50, 0.002, f"s{share}-")
            fleet.wait_finished(50 * share + 50)
            if proxy.counts()["cut"] >= cuts:
                break
        fleet.wait_done()
        worker.term()
        assert worker.wait(60) == 0
        no_surprises([worker])
        print(f"{protocol} {way} {name[:20]}: {proxy.counts()['cut']} cuts, {fleet.verdict()}")
        return proxy.counts()["cut"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "script"),
    [("down", CLAIM), ("up", CLAIM), ("down", SETTLE), ("up", SETTLE)],
    ids=["claim-answer", "claim-request", "settle-answer", "settle-request"],
)
def test_a_cut_on_redis_neither_loses_nor_repeats_a_task(fleet: Fleet, way: str, script: object) -> None:
    happened = cut_while_working(fleet, way, name_of(script), CUTS, "redis")

    assert happened == CUTS
    fleet.verdict().require(0)


@pytest.mark.slow
@pytest.mark.parametrize("fleet", ["rabbit"], indirect=True)
@pytest.mark.parametrize(("way", "name"), [("down", "basic.deliver"), ("up", "basic.ack")])
def test_a_cut_on_rabbitmq_loses_nothing_and_flags_what_comes_again(
    fleet: Fleet, way: str, name: str
) -> None:
    happened = cut_while_working(fleet, way, name, CUTS_RABBIT, "amqp")

    assert happened == CUTS_RABBIT
    # What two children held, running and ahead, can come again at each cut.
    fleet.verdict().require(CUTS_RABBIT * 2 * 10)


def test_a_confirm_that_never_comes_is_an_error_and_the_message_is_there(rabbit_url: str) -> None:
    with proxied(rabbit_url, "amqp") as proxy:
        broker = open_broker(proxy.url)
        consumer = open_broker(rabbit_url).consumer(["q"])
        broker.publish([Message(message("first"), queue="q")])
        proxy.cut("down", "basic.ack", every=1, times=1)

        with pytest.raises(BrokerDown):
            broker.publish([Message(message("unsure"), queue="q")])
        broker.publish([Message(message("after"), queue="q")])

        assert texts(take(consumer, 3)) == ["first", "unsure", "after"]
        consumer.close()
        broker.close()


def test_a_publish_whose_answer_is_lost_is_an_error_and_happened_once(redis_url: str) -> None:
    """Nothing tells a retry of it from a second call: that is left to its caller."""
    with proxied(redis_url, "redis") as proxy:
        broker = open_broker(proxy.url)
        broker.publish([Message(b"first", queue="q")])
        proxy.cut("down", "lpush", every=1, times=1)

        with pytest.raises(BrokerDown):
            broker.publish([Message(b"unsure", queue="q")])

        assert broker.administration.peek("q") == [b"first", b"unsure"]
        broker.close()


# --- the proxy itself


@pytest.fixture
def plain(redis_url: str) -> Proxy:
    made = Proxy(redis_url, "redis")
    yield made
    made.close()


def test_a_reset_ends_every_connection(plain: Proxy) -> None:
    broker = open_broker(plain.url)
    consumer = broker.consumer(["q"])

    plain.reset()

    with pytest.raises(BrokerDown):
        consumer.claim(1)
    consumer.reconnect()
    assert consumer.claim(1) == []
    consumer.close()
    broker.close()


def test_a_hole_holds_everything_and_lets_go(plain: Proxy) -> None:
    broker = open_broker(plain.url, {"heartbeat_s": 100.0})
    broker.check()

    plain.hole(0.5)
    began = time.monotonic()
    broker.publish([Message(message("a"), queue="q")])

    assert 0.4 < time.monotonic() - began < 50
    assert [text_of(raw) for raw in broker.administration.peek("q")] == ["a"]
    broker.close()


def test_latency_makes_answers_late_and_a_limit_ends_the_connection(plain: Proxy) -> None:
    broker = open_broker(plain.url)
    broker.check()
    plain.latency(60, "down")
    began = time.monotonic()
    broker.check()
    assert time.monotonic() - began > 0.05
    plain.clear()

    plain.limit(1000, "up")
    with pytest.raises(BrokerDown):
        broker.publish([Message(b"x" * 5000, queue="q")])

    broker.close()


def test_scripts_are_known_by_their_digest(plain: Proxy) -> None:
    broker = open_broker(plain.url)
    consumer = broker.consumer(["q"])
    broker.publish([Message(message("a"), queue="q")])
    end(consumer, *take(consumer, 1))
    consumer.renew()

    counts = plain.counts()

    for script in (ENROL, CLAIM, SETTLE, RENEW):
        assert counts[f"up {name_of(script)}"] == counts[f"down {name_of(script)}"] >= 1
    consumer.close()
    wait_for(lambda: plain.counts()["up lpush"] == 1)
    broker.close()
