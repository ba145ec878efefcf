"""One RabbitMQ for qcore and Celery: what each declares and sends suits the other."""

from __future__ import annotations

import threading
import time
from typing import Any

import celery
import pytest

from qcore.base.times import new_id
from qcore.brokers.contract.records import Settle, StoredResult
from qcore.brokers.kombu.broker import KombuBroker
from qcore.results.rpc import RpcStore
from qcore.wire import control, result, task
from tests.contracts.broker_contract import broker, opened, queue
from tests.contracts.consuming import Open, end, message, put, take, text_of
from tests.qcore.brokers.test_rabbitmq import broker_url, native

__all__ = ["broker", "broker_url", "opened", "queue"]


def celery_app(url: str, **conf: Any) -> celery.Celery:
    app = celery.Celery("x", broker=url, backend="rpc://", set_as_current=False)
    app.conf.update(broker_connection_retry=False, task_publish_retry=False, **conf)
    return app


@pytest.mark.parametrize("first", ["qcore", "celery"])
def test_queues_are_declared_alike(broker: KombuBroker, queue: str, rabbit_url: str, first: str) -> None:
    app = celery_app(rabbit_url)
    consumer = broker.consumer([queue]) if first == "qcore" else None

    for name in (queue, "celery"):
        with app.connection_for_write() as connection:
            app.amqp.queues[name](connection.default_channel).declare()

    consumer = consumer or broker.consumer([queue])
    broker.consumer(["celery"])
    sent = app.send_task("proj.add", (1, 2), queue=queue)
    (got,) = take(consumer, 1)
    assert task.read(got.raw).id == sent.id
    assert task.read_body(task.read(got.raw)).args == [1, 2]
    app.close()


def test_a_queue_declared_otherwise_is_used_as_it_is(
    broker: KombuBroker, queue: str, rabbit_url: str
) -> None:
    with native(rabbit_url) as connection:
        connection.default_channel.queue_declare(
            queue, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
        )

    put(broker, queue, "a")

    consumer = broker.consumer([queue])
    (got,) = take(consumer, 1)
    assert (got.redelivered, got.deliveries) == (False, 1)
    end(consumer, got, action=Settle.RETURN)
    (again,) = take(consumer, 1)
    assert (again.redelivered, again.deliveries) == (True, 2)


def test_the_control_bus_is_celerys(broker: KombuBroker, queue: str, rabbit_url: str) -> None:
    app = celery_app(rabbit_url)
    ear = broker.subscribe(control.EXCHANGE, "", f"w@{queue}")
    replies: list[Any] = []
    asking = threading.Thread(target=lambda: replies.extend(app.control.ping(timeout=3) or []))
    asking.start()

    request = control.decode_request(ear.get(5) or b"")
    assert request.method == "ping" and request.reply_exchange and request.reply_key
    answer = control.Reply(f"w@{queue}", {"ok": "pong"}, request.ticket)
    raw = control.encode_reply(answer, request.reply_exchange, request.reply_key)
    broker.reply(request.reply_exchange, request.reply_key, raw)

    asking.join()
    assert replies == [{f"w@{queue}": {"ok": "pong"}}]
    ear.close()
    app.close()


def test_a_second_listener_of_the_same_node_gets_a_queue_of_its_own(broker: KombuBroker, queue: str) -> None:
    first = broker.subscribe(control.EXCHANGE, "", f"w@{queue}")

    second = broker.subscribe(control.EXCHANGE, "", f"w@{queue}")

    broker.broadcast(control.EXCHANGE, "", message("x"))
    assert text_of(first.get(5) or b"") == text_of(second.get(5) or b"") == "x"
    first.close()
    second.close()


def test_a_celery_client_gets_an_rpc_result_of_ours(broker: KombuBroker, queue: str, rabbit_url: str) -> None:
    app = celery_app(rabbit_url)
    consumer = broker.consumer([queue])
    sent = app.send_task("proj.add", (1, 2), queue=queue)
    (got,) = take(consumer, 1)
    request = task.read(got.raw)
    store = RpcStore("rpc://", {"broker": broker})
    meta = result.encode(request.id, result.SUCCESS, 3, now=time.time())
    reply = store.reply(StoredResult(request.id, meta), request.reply_to or "", request.correlation_id)

    assert reply is not None
    end(consumer, got, sends=(reply,))

    assert sent.get(timeout=60) == 3
    app.close()


def test_our_client_gets_an_rpc_result_of_celerys(opened: Open, queue: str, rabbit_url: str) -> None:
    store = RpcStore("rpc://", {"broker": opened()})
    reply_to, task_id = store.reply_to(), new_id()
    assert reply_to
    app = celery_app(rabbit_url)

    class Request:
        id = correlation_id = task_id

    Request.reply_to = reply_to
    app.backend.store_result(task_id, 7, "SUCCESS", request=Request())

    found = store.wait(task_id, 10)
    assert found is not None and (found.status, found.result) == ("SUCCESS", 7)
    assert store.get([task_id, "unknown"]) == [found, None]
    assert store.forget([task_id]) == 1
    assert store.wait("unknown", 0.1) is None
    store.close()
    app.close()
