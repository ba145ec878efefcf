"""The order in which a consumer looks at its queues on Redis, and where unroutable calls go: as in kombu."""

from __future__ import annotations

import itertools
from typing import Any

import celery
import kombu
import pytest

from qcore import App
from qcore.brokers.contract.queues import Binding
from qcore.brokers.registry import open_broker
from qcore.errors import ConfigError, Unroutable

#: queues as they are named, and how many messages each has by priority
SENT = {"b": {0: 4}, "a": {0: 2, 3: 2}, "c": {0: 1, 3: 3}}


def fill(url: str) -> None:
    with kombu.Connection(url) as connection:
        for queue, priorities in SENT.items():
            for priority, count in priorities.items():
                for number in range(count):
                    connection.Producer().publish(
                        f"{queue}{priority}{number}", routing_key=queue, priority=priority, serializer="json"
                    )


def by_kombu(url: str, options: dict[str, Any]) -> list[str]:
    found: list[str] = []
    with kombu.Connection(url, transport_options=options) as connection:
        queues = [kombu.Queue(name) for name in SENT]
        with connection.Consumer(queues, callbacks=[lambda body, _: found.append(body)], no_ack=True):
            while len(found) < 12:
                connection.drain_events(timeout=10)
    return found


def by_qcore(url: str, options: dict[str, Any], sizes: Any) -> list[str]:
    broker = open_broker(url, options)
    consumer = broker.consumer(list(SENT))
    found: list[str] = []
    while len(found) < 12:
        found += [kombu_body(delivery.raw) for delivery in consumer.claim(next(sizes))]
    consumer.close()
    broker.close()
    return found


def kombu_body(raw: bytes) -> str:
    from qcore.wire.envelope import body_value, decode

    return str(body_value(decode(raw)))


@pytest.mark.parametrize("strategy", [None, "round_robin", "sorted", "priority"])
@pytest.mark.parametrize("sizes", [(1,), (5, 2), (12,)], ids=str)
def test_queues_are_looked_at_in_kombus_order(redis_url: str, strategy: str | None, sizes: Any) -> None:
    options = {} if strategy is None else {"queue_order_strategy": strategy}

    fill(redis_url)
    theirs = by_kombu(redis_url, options)
    fill(redis_url)
    ours = by_qcore(redis_url, options, itertools.cycle(sizes))

    assert ours == theirs


def test_an_unknown_order_is_an_error_with_the_near_miss(redis_url: str) -> None:
    broker = open_broker(redis_url, {"queue_order_strategy": "sortet"})

    with pytest.raises(ConfigError, match="did you mean 'sorted'"):
        broker.consumer(["a"])
    broker.close()


#: exchanges and keys of calls; the queue `bound` is bound to `known` for `key`
CALLS = (("known", "other"), ("unknown", "key"), ("known", "bound"), ("known", "key"))


def taken_from(connection: kombu.Connection, queue: str) -> list[dict[str, Any]]:
    found = []
    while (message := connection.default_channel.basic_get(queue, no_ack=True)) is not None:
        found.append(message.delivery_info)
    return found


@pytest.mark.filterwarnings("ignore::kombu.transport.virtual.base.UndeliverableWarning")
def test_what_no_queue_is_bound_for_goes_to_the_queue_of_dead_letters(redis_url: str) -> None:
    theirs = celery.Celery("t", broker=redis_url, set_as_current=False)
    ours = App("t", broker=redis_url, set_as_current=False)
    found = []
    with kombu.Connection(redis_url) as connection:
        kombu.Queue("bound", kombu.Exchange("known"), "key").bind(connection.default_channel).declare()
        for app in (theirs, ours):
            app.conf.broker_transport_options = {"deadletter_queue": "dead"}
            for exchange, key in CALLS:
                app.send_task("t.add", (1, 2), exchange=kombu.Exchange(exchange), routing_key=key)
            found.append({name: taken_from(connection, name) for name in ("dead", "bound", "celery")})
    ours.close()

    assert found[1] == found[0]
    assert {name: len(infos) for name, infos in found[0].items()} == {"dead": 3, "bound": 1, "celery": 0}


def test_a_topic_exchange_has_no_dead_letters(redis_url: str) -> None:
    app = App("t", broker=redis_url, set_as_current=False)
    app.conf.broker_transport_options = {"deadletter_queue": "dead"}
    app.broker.bind("bound", Binding("topics", "topic", "a.*"))

    with pytest.raises(Unroutable):
        app.send_task("t.add", (1, 2), exchange="topics", routing_key="b.c")
    app.close()
