"""What only the Redis broker promises: Celery's keys, broken connections, a server that is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from qcore.base.times import new_id
from qcore.brokers.base import Broker
from qcore.brokers.contract.administration import Depth
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.records import Delivery, Message, Settle, Settlement, StoredResult
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerDown, BrokerError, Unsupported
from qcore.wire import result
from tests.contracts.broker_contract import broker, opened, queue
from tests.contracts.consuming import Open, end, message, nothing_for, put, take, text_of, texts, wait_woken
from tests.support.redis_server import RedisServer, free_port, require_server
from tests.support.waiting import wait_for

__all__ = ["broker", "opened", "queue"]

SEP = b"\x06\x16"


@pytest.fixture
def broker_url(redis_url: str) -> str:
    return redis_url


def kill_clients(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


def test_messages_lie_where_celery_looks(broker: Broker, redis_server: RedisServer) -> None:
    for priority in range(10):
        put(broker, "celery", str(priority), priority=priority)
    broker.consumer(["celery"])

    with redis_server.client() as client:
        lists = {
            s: client.lrange(b"celery" + (SEP + s if s else b""), 0, -1) for s in (b"", b"3", b"6", b"9")
        }
        bindings = client.smembers("_kombu.binding.celery") | client.smembers(
            "_kombu.binding_permanent.celery"
        )
    assert {s: [text_of(raw) for raw in raws] for s, raws in lists.items()} == {
        b"": ["2", "1", "0"],
        b"3": ["5", "4", "3"],
        b"6": ["8", "7", "6"],
        b"9": ["9"],
    }
    assert bindings == {b"celery" + SEP + SEP + b"celery"}


def test_a_topic_binding_of_celery_is_followed(broker: Broker, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.sadd("_kombu.binding.tex", b"a.#" + SEP + rb"^a\..*?$" + SEP + b"topicq")
        client.sadd("_kombu.binding.dir", b"key" + SEP + SEP + b"directq")

    broker.publish([Message(b"1", exchange="tex", routing_key="a.b.c")])
    broker.publish([Message(b"2", exchange="dir", routing_key="key")])

    assert (broker.administration.peek("topicq"), broker.administration.peek("directq")) == ([b"1"], [b"2"])
    assert {"topicq", "directq"} <= set(broker.administration.queues())


def test_replies_are_never_written_into_task_queues(broker: Broker, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.sadd("_kombu.binding.reply.x", b"key" + SEP + SEP + b"celery")

    broker.reply("reply.x", "key", b"forged")

    assert broker.administration.depth("celery").ready == 0


def test_control_queues_of_celery_workers_are_foreign_members(
    broker: Broker, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.sadd("_kombu.binding.celery.pidbox", SEP + SEP + b"celery@host.celery.pidbox")
    broker.announce("ours@host", {}, 60)
    ear = broker.subscribe("celery.pidbox", node="ours@host")

    assert broker.foreign_members() == ["celery@host"]
    ear.close()


def test_publishing_goes_on_after_the_connection_was_cut(
    broker: Broker, redis_server: RedisServer, queue: str
) -> None:
    put(broker, queue, "a")
    kill_clients(redis_server)
    time.sleep(0.05)  # the end of a connection has no condition to wait for

    put(broker, queue, "b")

    assert [text_of(raw) for raw in broker.administration.peek(queue)] == ["a", "b"]


def test_a_consumer_keeps_its_deliveries_over_a_cut_connection(
    broker: Broker, redis_server: RedisServer, queue: str
) -> None:
    put(broker, queue, "a", "b")
    consumer = broker.consumer([queue])
    nothing_for_other = take(consumer, 1)
    consumer.arm()
    kill_clients(redis_server)

    with pytest.raises(BrokerDown):
        consumer.claim(1)
    consumer.reconnect()

    assert end(consumer, *nothing_for_other) == []
    assert texts(take(consumer, 1)) == ["b"]
    put(broker, queue, "c")
    assert texts(take(consumer, 1)) == ["c"]


def test_what_was_claimed_in_a_lost_answer_comes_back(
    broker: Broker, redis_server: RedisServer, queue: str
) -> None:
    put(broker, queue, "a", "b")
    consumer = broker.consumer([queue])
    (kept,) = take(consumer, 1)
    link = consumer._link  # type: ignore[attr-defined]
    read = link.read

    def lose() -> None:
        read()
        link.drop()
        raise BrokerDown("redis://", "cut")

    link.read = lose
    with pytest.raises(BrokerDown):
        consumer.claim(1)
    link.read = read
    assert broker.administration.depth(queue).in_flight == 2

    consumer.reconnect()

    (again,) = take(consumer, 1)
    assert (text_of(again.raw), again.redelivered) == ("b", False)
    assert end(consumer, kept, again) == []


def test_ears_and_waits_survive_a_cut_connection(
    broker: Broker, redis_server: RedisServer, queue: str
) -> None:
    ear = broker.subscribe(queue)
    task_id = new_id()
    broker.wait_result(task_id, 0)
    kill_clients(redis_server)

    with pytest.raises(BrokerDown):
        ear.get(60)
    assert ear.get(0.01) is None
    broker.broadcast(queue, "", b"again")
    assert ear.get(60) == b"again"
    threading.Timer(0.1, broker.store_results, ([_stored(task_id)],)).start()
    assert broker.wait_result(task_id, 60)
    ear.close()


def _stored(task_id: str) -> StoredResult:
    return StoredResult(task_id, result.encode(task_id, "SUCCESS", 1, now=time.time()))


def test_a_closed_port_is_reported_at_once_and_without_the_password() -> None:
    url = f"redis://user:geheim@127.0.0.1:{free_port()}/0"
    broker = open_broker(url, {"connect_timeout_s": 100.0})
    began = time.monotonic()

    for work in (
        broker.check,
        broker.administration.queues,
        lambda: broker.consumer(["q"]),
        lambda: put(broker, "q", "a"),
    ):
        with pytest.raises(BrokerDown) as caught:
            work()
        assert "geheim" not in str(caught.value) and "127.0.0.1" in str(caught.value)
    assert time.monotonic() - began < 50


def test_a_wrong_password_is_reported_without_it(redis_server: RedisServer, redis_url: str) -> None:
    broker = open_broker(redis_url.replace("redis://", "redis://nobody:geheim@"))

    with pytest.raises(BrokerDown) as caught:
        broker.check()

    assert "geheim" not in str(caught.value)


def test_a_key_of_another_type_is_an_error_and_loses_nothing(
    broker: Broker, redis_server: RedisServer, queue: str
) -> None:
    put(broker, queue, "a")
    consumer = broker.consumer([queue])
    (got,) = take(consumer, 1)
    with redis_server.client() as client:
        client.set("taken", "x")

    with pytest.raises(BrokerError, match="WRONGTYPE"):
        end(consumer, got, sends=(Message(b"x", queue="taken"),))

    assert end(consumer, got) == []


def woken_by(broker: Broker, consumer: Consumer, queue: str) -> Delivery:
    """The delivery of a message that woke an idle consumer, which no ledger has yet."""
    consumer.arm()
    put(broker, queue, "a")
    return wait_for(lambda: [d for fd in consumer.fds() for d in consumer.wake(fd)])[0]


@pytest.mark.parametrize("place", ["claim list", "ledger", "returned"])
@pytest.mark.parametrize(
    ("action", "depth"),
    [
        (Settle.ACK, Depth(0, 0, 0)),
        (Settle.REQUEUE, Depth(1, 0, 0)),
        (Settle.RETURN, Depth(1, 0, 0)),
        (Settle.DELAY, Depth(0, 1, 0)),
        (Settle.QUARANTINE, Depth(0, 0, 0)),
    ],
)
def test_what_woke_a_consumer_is_settled_as_what_it_claimed(
    action: Settle, depth: Depth, place: str, opened: Open, redis_server: RedisServer, queue: str
) -> None:
    broker = opened(lease_s=0.3 if place == "returned" else 60)
    consumer = broker.consumer([queue])
    got = woken_by(broker, consumer, queue)
    if place == "ledger":
        consumer.claim(1)
    elif place == "returned":
        other = broker.consumer([])
        wait_for(other.reap)
        depth = Depth(1, 0, 0)
    due_at = time.time() + 60 if action == Settle.DELAY else 0.0
    sends = (Message(message("b"), queue=queue + "-2"),)

    refused = consumer.settle([Settlement(got, action, due_at=due_at, sends=sends)])

    assert refused == ([got.number] if place == "returned" else [])
    found = broker.administration
    assert found.depth(queue) == depth
    assert found.depth(queue + "-2").ready == (place != "returned")
    with redis_server.client() as client:
        assert client.llen(f"{consumer._owner.claim} {queue}") == 0  # type: ignore[attr-defined]
        assert client.hlen(consumer._owner.ledger) == 0  # type: ignore[attr-defined]
        assert client.xlen(consumer._keys.quarantine) == (  # type: ignore[attr-defined]
            action == Settle.QUARANTINE and place != "returned"
        )
        client.delete(consumer._keys.quarantine)  # type: ignore[attr-defined]


def test_what_a_refused_settlement_leaves_can_be_settled_without_its_messages(
    broker: Broker, redis_server: RedisServer, queue: str
) -> None:
    redis_server.client().set("no-list", "text")
    consumer = broker.consumer([queue])
    got = woken_by(broker, consumer, queue)
    stored = StoredResult("a-id", result.encode("a-id", "SUCCESS", 1, now=1.0), None)
    settlement = Settlement(got, Settle.ACK, result=stored, sends=(Message(b"x", queue="no-list"),))
    with pytest.raises(BrokerError):
        consumer.settle([settlement])
    settlement.sends = ()

    refused = consumer.settle([settlement])

    assert refused == []
    assert broker.administration.depth(queue) == Depth(0, 0, 0)
    (kept,) = broker.results_of(["a-id"])
    assert kept is not None and kept.result == 1


def test_scripts_come_back_after_a_flush(broker: Broker, redis_server: RedisServer, queue: str) -> None:
    consumer = broker.consumer([queue])
    with redis_server.client() as client:
        client.script_flush()
    put(broker, queue, "a")

    assert end(consumer, *take(consumer, 1)) == []


def test_a_wake_up_that_lands_after_its_owner_died_is_returned(
    opened: Open, redis_server: RedisServer, queue: str
) -> None:
    dead = opened(lease_s=0.2).consumer([queue])
    nothing_for(dead, 0.05)
    dead.arm()
    other = opened().consumer([queue])
    with redis_server.client() as client:
        wait_for(lambda: not client.keys("qcore.lease.*" + dead._owner.id))  # type: ignore[attr-defined]
    other.reap()

    put(opened(), queue, "a")

    assert wait_for(other.reap) == 1
    (got,) = take(other, 1)
    assert (text_of(got.raw), got.redelivered) == ("a", True)  # nobody can know whether it was started


def test_an_idle_consumer_sends_next_to_nothing(
    broker: Broker, redis_server: RedisServer, queue: str
) -> None:
    consumer = broker.consumer([queue])
    nothing_for(consumer, 0.1)
    consumer.arm()
    with redis_server.client() as client:
        before = client.info("stats")["total_commands_processed"]
        wait_woken(consumer, 1.0)
        consumer.arm()
        assert client.info("stats")["total_commands_processed"] - before <= 3


def test_a_forked_child_has_connections_of_its_own(broker: Broker, queue: str) -> None:
    put(broker, queue, "parent")
    consumer = broker.consumer([queue])
    consumer.arm()

    child = os.fork()
    if not child:
        code = 1
        try:
            put(broker, queue, "child")
            consumer.close()
            code = 0
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    put(broker, queue, "parent again")
    got = take(consumer, 3)
    assert sorted(texts(got)) == ["child", "parent", "parent again"]
    assert consumer.settle([Settlement(d) for d in got]) == []


def test_a_killed_server_that_keeps_its_data_loses_nothing(queue: str, tmp_path: Path) -> None:
    server = RedisServer(require_server(), "--appendonly", "yes", "--appendfsync", "always")
    try:
        broker = open_broker(server.url)
        put(broker, queue, "a", "b", "c")
        consumer = broker.consumer([queue])
        first, second = take(consumer, 2)
        end(consumer, first)

        server.kill9()
        with pytest.raises(BrokerDown):
            end(consumer, second)
        with pytest.raises(BrokerDown):
            consumer.reconnect()
        server.restart()

        consumer.reconnect()
        assert end(consumer, second) == []
        assert texts(take(consumer, 1)) == ["c"]
        consumer.close()
        broker.close()
    finally:
        server.stop()


def test_a_message_that_a_worker_of_celery_holds_is_found(opened: Open, redis_server: RedisServer) -> None:
    """Celery's workers keep it in a hash, with its exchange and queue, and do not say who they are."""
    administration = opened().administration
    held = '[{"body": "", "headers": {"id": "held-1", "task": "proj.add"}}, "", "mails"]'
    with redis_server.client() as client:
        client.hset("unacked", mapping={"tag-1": held, "tag-2": "held-1 is no message"})

        found = administration.holder("held-1")

        assert found is not None
        assert (found.queue, found.node, found.until, found.by_celery) == ("mails", "", None, True)
        assert administration.holder("held-2") is None
        client.hset("unacked", mapping={f"more-{number}": "x" for number in range(10_000)})
        with pytest.raises(Unsupported, match="more than 10,000 messages that Celery's workers hold"):
            administration.holder("held-1")


def test_a_server_that_hangs_is_lost_after_the_heartbeat() -> None:
    server = RedisServer(require_server())
    broker = open_broker(server.url, {"heartbeat_s": 0.3})
    put(broker, "q", "first")
    assert server.process is not None

    server.process.send_signal(signal.SIGSTOP)

    try:
        with pytest.raises(BrokerDown):
            put(broker, "q", "second")
    finally:
        server.process.send_signal(signal.SIGCONT)
        broker.close()
        server.stop()
