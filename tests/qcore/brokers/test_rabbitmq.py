"""RabbitMQ: the broker suite, and what only AMQP promises or demands."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import kombu
import pytest
from amqp.exceptions import PreconditionFailed

from qcore import App
from qcore.app.queues import QueueTable
from qcore.base.times import new_id
from qcore.brokers.contract.records import Message, Settle, Settlement
from qcore.brokers.kombu import bulletin
from qcore.brokers.kombu.broker import KombuBroker
from qcore.brokers.kombu.consumer import FULL_S
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerBusy, BrokerDown, Malformed, Unroutable
from qcore.settings.config import Config
from qcore.wire import envelope, task
from tests.contracts.broker_contract import BrokerContract, broker, opened, queue
from tests.contracts.consuming import (
    Open,
    confirms_within,
    end,
    message,
    nothing_for,
    put,
    take,
    text_of,
    texts,
    wait_woken,
)
from tests.faults.proxy import proxied
from tests.support.rabbit_server import RabbitServer
from tests.support.waiting import wait_for

__all__ = ["broker", "opened", "queue"]


class TestRabbit(BrokerContract):
    @pytest.fixture
    def broker_url(self, rabbit_url: str) -> str:
        return rabbit_url


class TestEmulated(BrokerContract):
    """kombu's own memory transport, asked for past our driver of that name."""

    @pytest.fixture
    def broker_url(self) -> str:
        return "memory://"

    @pytest.fixture
    def opened(self, broker_url: str) -> Iterator[Open]:
        opened: list[KombuBroker] = []

        def open_one(**options: Any) -> KombuBroker:
            opened.append(KombuBroker(broker_url, options))
            return opened[-1]

        yield open_one
        for one in opened:
            one.close()

    def test_publishing_to_nowhere_is_an_error(self) -> None:
        pytest.skip("an emulation does not tell")


@pytest.fixture
def broker_url(rabbit_url: str) -> str:
    return rabbit_url


def native(url: str) -> kombu.Connection:
    return kombu.Connection(url)


def task_bytes(name: str, queue: str, *args: Any, **more: Any) -> bytes:
    return task.build(name, args, {}, task_id=new_id(), routing_key=queue, **more)


# --- declarations


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({}, {}),
        ({"task_queue_max_priority": 7}, {"x-max-priority": 7}),
        (
            {
                "task_queue_max_priority": 7,
                "task_queues": {"celery": {"queue_arguments": {"x-expires": 60000}}},
            },
            {"x-expires": 60000, "x-max-priority": 7},
        ),
    ],
)
def test_a_queue_has_the_arguments_of_the_settings(
    broker_url: str, settings: dict[str, Any], arguments: dict[str, Any]
) -> None:
    app = App("queues", broker=broker_url, set_as_current=False, **settings)
    app.send_task("t")
    app.close()

    with native(broker_url) as connection:
        # RabbitMQ accepts a second declaration only with the same arguments.
        connection.default_channel.queue_declare(
            "celery", durable=True, auto_delete=False, arguments=arguments
        )
        with pytest.raises(PreconditionFailed):
            connection.channel().queue_declare(
                "celery", durable=True, auto_delete=False, arguments={"x-max-length": 9}
            )


# --- publish


def test_a_message_comes_back_byte_for_byte(broker: KombuBroker, queue: str) -> None:
    raw = task_bytes("proj.add", queue, 1, 2, eta="2030-01-01T00:00:00+00:00", priority=3, reply_to="me")

    broker.publish([Message(raw, queue=queue)])

    assert broker.administration.peek(queue) == [raw]
    assert take(broker.consumer([queue]), 1)[0].raw == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\x00",
        b"m" * 1_000_000,
        envelope.wrap(b"[]", exchange="", routing_key="", headers={"id": "x", "big": 2**70}),
        envelope.wrap(b"[]", exchange="", routing_key="", headers={"id": "x", "k" * 300: 1}),
        envelope.wrap(b"[]", exchange="", routing_key="", headers={"id": "x", "long": "h" * 200_000}),
        envelope.wrap(b"[]", exchange="", routing_key="", correlation_id="c" * 300),
    ],
    ids=["empty", "bytes", "large", "integer", "key", "headers", "correlation"],
)
def test_what_amqp_cannot_spell_is_carried_whole(broker: KombuBroker, queue: str, raw: bytes) -> None:
    broker.publish([Message(raw, queue=queue), Message(raw, queue=queue, due_at=time.time() + 1.1)])

    assert [d.raw for d in take(broker.consumer([queue]), 2)] == [raw, raw]


def test_a_thousand_messages_are_sent_before_the_first_confirm(
    broker: KombuBroker, rabbit_url: str, queue: str
) -> None:
    with proxied(rabbit_url, "amqp") as proxy:
        publisher = open_broker(proxy.url)
        put(publisher, queue, "first")
        proxy.hole(None, "down")
        with confirms_within(0.3), pytest.raises(BrokerDown, match="not confirmed within"):
            put(publisher, queue, *[str(i) for i in range(1000)])
        wait_for(lambda: broker.administration.depth(queue).ready == 1001)

        proxy.clear()
        put(publisher, queue, *[str(i) for i in range(1000)])
        assert broker.administration.depth(queue).ready == 2001
        publisher.close()


def test_an_unbound_key_of_a_real_exchange_is_unroutable(broker: KombuBroker, queue: str) -> None:
    broker.consumer([queue])

    with pytest.raises(Unroutable, match="other"):
        broker.publish([Message(message("a"), exchange=queue, routing_key="other")])

    put(broker, queue, "b")
    assert broker.administration.depth(queue).ready == 1


def test_a_queue_deleted_since_is_declared_again(broker: KombuBroker, queue: str, rabbit_url: str) -> None:
    put(broker, queue, "a")
    with native(rabbit_url) as connection:
        connection.default_channel.queue_delete(queue)

    put(broker, queue, "b")

    assert texts(take(broker.consumer([queue]), 1)) == ["b"]


def test_a_publish_survives_a_connection_closed_while_idle(
    broker: KombuBroker, queue: str, rabbit_url: str, rabbit_server: RabbitServer
) -> None:
    put(broker, queue, "a")
    rabbit_server.kill_connections(rabbit_url)

    put(broker, queue, "b")

    assert broker.administration.depth(queue).ready == 2


def test_a_message_to_a_reply_queue_that_is_gone_is_dropped(broker: KombuBroker, queue: str) -> None:
    raw = envelope.wrap(b"{}", exchange="", routing_key=queue, delivery_mode=1)

    broker.publish([Message(raw, queue=queue)])

    assert broker.administration.depth(queue).ready == 0


# --- what others send


class Odd:
    """Messages as other clients make them."""

    headers = (
        {"id": b"\xff\xfe"},
        {"id": b"bytes", "task": "t", "n": Decimal("1.5"), "when": datetime.now()},
        {"id": "x", "task": "t", "deep": {"table": [{"a": b"\x00"}]}},
        {},
    )


@pytest.mark.parametrize("headers", Odd.headers, ids=range(len(Odd.headers)))
def test_any_headers_become_an_envelope(
    broker: KombuBroker, queue: str, rabbit_url: str, headers: Any
) -> None:
    consumer = broker.consumer([queue])
    with native(rabbit_url) as connection:
        producer = connection.Producer()
        producer.publish(
            b"\x00\xff", routing_key=queue, headers=headers, content_type="x/y", content_encoding="binary"
        )

    (got,) = take(consumer, 1)

    found = envelope.decode(got.raw)
    assert envelope.body_bytes(found) == b"\x00\xff"
    assert found.content_type == "x/y"
    assert end(consumer, got) == []


def test_unreadable_properties_do_not_end_the_connection(
    broker: KombuBroker, queue: str, rabbit_url: str
) -> None:
    consumer = broker.consumer([queue])
    with native(rabbit_url) as connection:
        channel = connection.default_channel
        odd = channel.prepare_message(
            b"body", content_type="text/plain", properties={"correlation_id": "MARK"}
        )
        spell = odd._serialize_properties
        odd._serialize_properties = lambda: spell().replace(b"MARK", b"\xff\xfe\xfd\xfc")
        channel.basic_publish(odd, routing_key=queue)
    put(broker, queue, "good")

    first, second = take(consumer, 2)

    with pytest.raises(Malformed):
        task.read(first.raw)
    assert text_of(second.raw) == "good"
    assert end(consumer, first, action=Settle.QUARANTINE, reason="no_id") == []
    assert end(consumer, second) == []
    assert [q.reason for q in broker.administration.quarantined()] == ["no_id"]


# --- fencing


def test_deliveries_of_an_older_connection_are_refused_with_all_they_do(
    broker: KombuBroker, queue: str, rabbit_url: str, rabbit_server: RabbitServer
) -> None:
    put(broker, queue, "a")
    consumer = broker.consumer([queue])
    (old,) = take(consumer, 1)
    rabbit_server.kill_connections(rabbit_url)
    with pytest.raises(BrokerDown):
        end(consumer, old)
    assert consumer.renew() is False

    consumer.reconnect()
    refused = end(consumer, old, sends=(Message(message("never"), queue=queue),))

    assert refused == [old.number]
    (again,) = take(consumer, 1)
    assert text_of(again.raw) == "a" and again.redelivered and again.number > old.number
    nothing_for(consumer)
    assert consumer.renew() is True


def test_a_continuation_that_no_queue_takes_is_kept_and_holds_nothing_up(
    broker: KombuBroker, queue: str
) -> None:
    put(broker, queue, "good", "bad")
    consumer = broker.consumer([queue])
    good, bad = take(consumer, 2)
    places = [(queue, "nowhere"), ("no-such-exchange", "x")]
    sends = tuple(Message(message(key), exchange=exchange, routing_key=key) for exchange, key in places)

    refused = consumer.settle([Settlement(good), Settlement(bad, sends=sends)])

    assert refused == []
    assert {(q.reason, text_of(q.raw)) for q in broker.administration.quarantined()} == {
        ("unroutable", "nowhere"),
        ("unroutable", "x"),
    }
    nothing_for(consumer)


@pytest.mark.own_rabbit
def test_a_restarted_broker_keeps_what_was_confirmed(
    broker: KombuBroker, queue: str, rabbit_server: RabbitServer
) -> None:
    put(broker, queue, *"abc")
    consumer = broker.consumer([queue])
    take(consumer, 1)

    rabbit_server.restart()

    consumer.reconnect()
    assert sorted(texts(take(consumer, 3))) == ["a", "b", "c"]
    put(broker, queue, "d")
    assert texts(take(consumer, 1)) == ["d"]


@pytest.mark.own_rabbit
def test_a_silent_broker_is_down_within_the_connect_timeout(
    rabbit_url: str, rabbit_server: RabbitServer
) -> None:
    broker = open_broker(rabbit_url, {"connect_timeout_s": 0.5})
    rabbit_server.stop()
    began = time.monotonic()
    try:
        with pytest.raises(BrokerDown, match="did not answer"):
            broker.check()
    finally:
        rabbit_server.cont()

    assert time.monotonic() - began < 50


def test_a_wrong_password_is_told_and_masked(rabbit_server: RabbitServer) -> None:
    url = rabbit_server.url_of("%2F", password="wr0ng")

    with pytest.raises(BrokerDown) as caught:
        open_broker(url).check()

    assert "wr0ng" not in str(caught.value) and "ACCESS_REFUSED" in str(caught.value)


def test_a_forked_child_leaves_its_parents_connection_alone(broker: KombuBroker, queue: str) -> None:
    put(broker, queue, "parent")
    child = os.fork()
    if child == 0:
        try:
            put(broker, queue, "child")
            os._exit(0)
        finally:
            os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    put(broker, queue, "parent")
    assert broker.administration.depth(queue).ready == 3


# --- push


def test_prefetch_limits_what_is_pushed(opened: Open, queue: str) -> None:
    first, second = opened().consumer([queue]), opened().consumer([queue])
    first.prefetch(2)
    first.arm()
    put(opened(), queue, *"abcd")
    got = take(first, 2)
    assert first.claim(5) == []

    rest = take(second, 2)

    assert texts(got) == ["a", "b"] and sorted(texts(rest)) == ["c", "d"]


def test_more_is_pushed_while_tasks_are_short(opened: Open, queue: str) -> None:
    consumer = opened().consumer([queue])
    consumer.prefetch(2)
    consumer.arm()
    put(opened(), queue, *map(str, range(12)))
    held = take(consumer, 2)

    consumer.look_ahead(10)
    held += take(consumer, 6)

    def arrived() -> int:
        consumer.wake(consumer.fds()[0])
        return opened().administration.depth(queue).ready

    wait_for(lambda: arrived() == 0, what="ten more than the two that the first window let in")
    assert texts(held) == [*map(str, range(8))]
    for _ in range(2):
        consumer.disarm()  # full: what has arrived waits a moment for room, then it is for others
        time.sleep(FULL_S)
    wait_for(lambda: arrived() == 2, what="but for two, the first window")
    assert end(consumer, *held) == []


def test_a_full_consumer_gives_back_what_woke_it(opened: Open, queue: str) -> None:
    full, idle = opened().consumer([queue]), opened().consumer([queue])
    full.arm()
    put(opened(), queue, "a")
    wait_for(lambda: opened().administration.depth(queue).ready == 0, what="the message is pushed")

    full.disarm()

    assert texts(take(idle, 1)) == ["a"]


def test_every_message_wakes_an_armed_consumer_that_holds_others(opened: Open, queue: str) -> None:
    consumer = opened().consumer([queue])
    for i in range(5):
        assert consumer.claim(3) == []
        consumer.arm()
        assert consumer.idle_s() > 1
        put(opened(), queue, f"m{i}")
        assert wait_woken(consumer, 5)
        assert texts(consumer.claim(3)) == [f"m{i}"]


def test_messages_read_along_with_something_else_still_wake(opened: Open, queue: str) -> None:
    consumer = opened().consumer([queue])
    consumer.prefetch(4)
    consumer.arm()
    put(opened(), queue, "a")
    wait_for(lambda: opened().administration.depth(queue).ready == 0)

    keeper = threading.Thread(target=consumer.renew)
    keeper.start()
    keeper.join()

    assert wait_woken(consumer, 2) is True or consumer.idle_s() == 0
    assert texts(consumer.claim(1)) == ["a"]


def test_a_slow_task_does_not_lose_its_connection(opened: Open, queue: str) -> None:
    consumer = opened(broker_heartbeat=1).consumer([queue])
    put(opened(), queue, "a")
    (got,) = take(consumer, 1)
    until = time.monotonic() + 4

    while time.monotonic() < until:
        assert consumer.renew()
        time.sleep(0.2)

    assert end(consumer, got) == []


# --- delays


def test_a_delayed_message_reaches_its_queue_and_no_other(broker: KombuBroker, queue: str) -> None:
    dotted = f"other.{queue}"
    consumer, other = broker.consumer([queue]), broker.consumer([dotted])
    due = time.time() + 1.3

    put(broker, dotted, "x", due_at=due)
    put(broker, queue, "y", due_at=due)

    assert texts(take(consumer, 1)) == ["y"] and time.time() >= due
    assert texts(take(other, 1)) == ["x"]
    nothing_for(consumer)
    nothing_for(other)


def test_a_message_can_be_delayed_through_the_same_level_again_and_again(
    broker: KombuBroker, queue: str
) -> None:
    put(broker, queue, "a", due_at=time.time() + 1.05)
    consumer = broker.consumer([queue])

    for _ in range(2):
        (got,) = take(consumer, 1)
        end(consumer, got, action=Settle.DELAY, due_at=time.time() + 1.05)

    assert texts(take(consumer, 1)) == ["a"]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_the_delays_of_a_celery_worker_are_used_as_they_are(
    broker: KombuBroker, queue: str, rabbit_url: str, kind: str
) -> None:
    from kombu.transport.native_delayed_delivery import declare_native_delayed_delivery_exchanges_and_queues

    with native(rabbit_url) as connection:
        declare_native_delayed_delivery_exchanges_and_queues(connection, kind)

    put(broker, queue, "a", due_at=time.time() + 1.1)

    assert texts(take(broker.consumer([queue]), 1)) == ["a"]


def test_celery_declares_the_delays_over_ours(broker: KombuBroker, queue: str, rabbit_url: str) -> None:
    from kombu.transport.native_delayed_delivery import declare_native_delayed_delivery_exchanges_and_queues

    put(broker, queue, "a", due_at=time.time() + 30)

    with native(rabbit_url) as connection:
        declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")


# --- quorum queues


def is_quorum(url: str, queue: str) -> bool:
    with native(url) as connection:
        channel = connection.default_channel
        try:
            channel.queue_declare(
                queue, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
            )
        except PreconditionFailed:
            return False
        return True


def declaring(**settings: Any) -> dict[str, Any]:
    """The broker's options that define queues by these settings."""
    return {"define_queue": QueueTable(Config(settings)).definition}


def test_the_settings_choose_the_type_of_a_queue(opened: Open, queue: str, rabbit_url: str) -> None:
    default = opened(**declaring(task_default_queue=queue, task_default_queue_type="quorum"))
    missing = opened(**declaring(task_default_queue=queue, task_create_missing_queue_type="quorum"))

    put(default, queue, "a")
    put(default, f"{queue}-other", "a")
    put(missing, f"{queue}-missing", "a")

    assert is_quorum(rabbit_url, queue)
    assert not is_quorum(rabbit_url, f"{queue}-other")
    assert is_quorum(rabbit_url, f"{queue}-missing")


def test_a_quorum_queue_is_served_like_any_other_and_counts(opened: Open, queue: str) -> None:
    broker = opened(**declaring(task_default_queue=queue, task_default_queue_type="quorum"))
    consumer = broker.consumer([queue])
    put(broker, queue, *"ab")
    later = time.time() + 1.2
    broker.publish([Message(message("later"), queue=queue, due_at=later)])

    first, second = take(consumer, 2)
    end(consumer, first)
    end(consumer, second, action=Settle.RETURN)
    (again,) = take(consumer, 1)
    end(consumer, again, action=Settle.RETURN)
    (third,) = take(consumer, 1)

    assert [d.deliveries for d in (second, again, third)] == [1, 2, 3]
    assert third.redelivered and text_of(third.raw) == "b"
    consumer.settle([Settlement(third, Settle.DELAY, due_at=later)])
    assert sorted(texts(take(consumer, 2))) == ["b", "later"]
    assert time.time() >= later


# --- boards


def test_a_board_that_another_client_keeps_is_not_taken_for_an_empty_one(
    opened: Open, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = opened()
    broker.announce("n1", {"pid": 1}, 60)
    monkeypatch.setattr(bulletin, "WAIT_S", 0.1)

    with kombu.Connection(broker.url) as other:
        held = other.channel()
        held.basic_consume(broker._roster._members.name, exclusive=True, callback=lambda _: None)
        with pytest.raises(BrokerBusy, match="another client reads the queue"):
            broker.members()
        held.close()

    assert [member.node for member in broker.members()] == ["n1"]


def test_many_read_a_board_at_once_and_all_see_all_of_it(opened: Open, queue: str) -> None:
    brokers = [opened() for _ in range(4)]
    for number in range(50):
        brokers[0].announce(f"n{number}", {"pid": number}, 60)
    seen: list[int] = []

    def look(broker: KombuBroker) -> None:
        seen.extend(len(broker.members()) for _ in range(10))

    threads = [threading.Thread(target=look, args=(one,)) for one in brokers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert seen == [50] * 40
