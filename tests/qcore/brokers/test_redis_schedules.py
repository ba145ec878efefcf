"""Schedule entries on Redis: where messages go that others read, refused messages, large batches."""

from __future__ import annotations

import time

import pytest

from qcore.brokers.base import Broker
from qcore.brokers.contract.queues import Binding
from qcore.brokers.contract.records import Message
from qcore.brokers.contract.schedules import Firing
from qcore.brokers.redis import schedules
from qcore.brokers.redis.schedules import RedisSchedules
from qcore.errors import BrokerError
from qcore.wire import envelope
from qcore.wire.schedule import EntryState
from tests.contracts.broker_contract import broker, opened, queue
from tests.contracts.consuming import Open, message, nothing_for, take, texts
from tests.contracts.schedules_contract import firing, names, one
from tests.support.redis_server import RedisServer

__all__ = ["broker", "opened", "queue"]


@pytest.fixture
def broker_url(redis_url: str) -> str:
    return redis_url


def test_a_refused_message_leaves_its_instant_to_be_published_later(
    broker: Broker, queue: str, redis_server: RedisServer
) -> None:
    store = broker.schedules
    store.declare("app", {"a": b"1", "b": b"1", "c": b"1"})
    with redis_server.client() as client:
        client.set("no-list", "x")
    tries = [firing("a", queue=queue), firing("b", queue="no-list"), firing("c", queue=queue)]

    with pytest.raises(BrokerError, match="WRONGTYPE"):
        store.fire(tries)

    assert [entry.state.cursor_us for entry in store.entries()] == [10, 0, 0]
    with redis_server.client() as client:
        client.delete("no-list")
    first = one(store, "a").state
    assert store.fire(tries) == [first, None, None]
    assert texts(take(broker.consumer([queue]), 2)) == ["a-10", "c-10"]


@pytest.mark.parametrize("is_consumed", [False, True])
def test_a_delayed_message_is_where_the_consumers_of_its_queue_look(
    broker: Broker, queue: str, redis_server: RedisServer, is_consumed: bool
) -> None:
    if is_consumed:
        consumer = broker.consumer([queue])
        nothing_for(consumer)  # it waits
    broker.schedules.declare("app", {"a": b"1"})
    headers = {"id": "later", "eta": "2100-01-01T00:00:00+00:00"}
    raw = envelope.wrap(b"[[], {}, {}]", exchange="", routing_key=queue, headers=headers)

    broker.schedules.fire([firing("a", messages=(Message(raw, queue, due_at=time.time() + 3600),))])

    depth = broker.administration.depth(queue)
    assert (depth.ready, depth.delayed) == ((0, 1) if is_consumed else (1, 0))  # Celery's workers hold it


def test_a_large_batch_goes_in_several_calls(
    broker: Broker, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    store = broker.schedules
    assert isinstance(store, RedisSchedules)
    store.declare("app", {f"e{i:03}": b"1" for i in range(300)})
    monkeypatch.setattr(schedules, "BYTES_AT_ONCE", 10_000)
    run = store._shared.run

    def counted(script: object, keys: tuple[object, ...], arguments: tuple[object, ...]) -> object:
        calls.append(sum(len(value) for value in arguments if isinstance(value, bytes)))
        return run(script, keys, arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store._shared, "run", counted)

    done = store.fire([firing(f"e{i:03}", queue=queue) for i in range(300)])

    assert done == [None] * 300
    assert len(calls) > 3 and max(calls) <= 10_000
    assert texts(take(broker.consumer([queue]), 300)) == [f"e{i:03}-10" for i in range(300)]


def test_an_entry_that_is_deleted_while_pages_are_read_is_not_listed(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = opened().schedules, opened().schedules
    assert isinstance(store, RedisSchedules)
    store.declare("app", dict.fromkeys("abcdef", b"1"))
    monkeypatch.setattr(schedules, "READ_AT_ONCE", 2)
    run, count = store._shared.run, 0

    def meanwhile(script: object, keys: tuple[object, ...], arguments: tuple[object, ...]) -> object:
        nonlocal count
        count += 1
        if count == 2:
            other.declare("app", {"b": b"2", "d": b"1", "e": b"1", "f": b"1"})
        return run(script, keys, arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store._shared, "run", meanwhile)

    found = store.entries()

    assert [(entry.name, entry.declared) for entry in found] == [
        ("b", b"2"),
        ("d", b"1"),
        ("e", b"1"),
        ("f", b"1"),
    ]


def test_a_message_to_an_exchange_goes_to_all_its_queues(broker: Broker, queue: str) -> None:
    broker.bind(queue, Binding("ex", "direct", "key"))
    broker.bind(f"{queue}-2", Binding("ex", "direct", "key"))
    broker.schedules.declare("app", {"a": b"1"})
    call = Message(message("x"), exchange="ex", routing_key="key")

    assert broker.schedules.fire([Firing("a", 0, 1, (call,), runs=1)]) == [None]

    assert [broker.administration.depth(name).ready for name in (queue, f"{queue}-2")] == [1, 1]
    assert one(broker.schedules, "a").state == EntryState(1, 1)


def test_entries_of_a_name_with_any_characters(broker: Broker) -> None:
    odd = ["", "a b", "ünï", "a.b:c{d}", "new\nline", "*"]

    broker.schedules.declare("äpp", dict.fromkeys(odd, b"1"))

    assert names(broker.schedules.entries()) == sorted(odd)
    assert broker.schedules.fire([firing(name, by="mé\n ") for name in odd]) == [None] * len(odd)
    for name in odd:
        found = one(broker.schedules, name)
        assert (found.source, found.state.last_task_id, found.state.last_by) == ("äpp", f"{name}-10", "mé\n ")
        assert [record.by for record in broker.schedules.history(name)] == ["mé\n "]
    assert broker.schedules.named(["b"]) == [None]
    assert broker.schedules.edit("gone", None) is False
