"""RabbitMQ is killed, is short of space, or hands over to another: what was confirmed stays, and nobody
waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from qcore.base.times import new_id
from qcore.brokers.base import Broker
from qcore.brokers.contract.records import Message, Settlement
from qcore.brokers.kombu.connection import ANSWER_S
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerDown, BrokerFull
from qcore.wire import task
from tests.contracts.broker_contract import opened
from tests.contracts.consuming import Open, confirms_within, message, put, text_of
from tests.faults import size
from tests.faults.fleet import Fleet, no_surprises
from tests.faults.proxy import Proxy, proxied
from tests.support.rabbit_server import RabbitServer
from tests.support.waiting import wait_for

__all__ = ["opened"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: less than one answer that is waited for in vain
BACK_S = ANSWER_S - 1


@pytest.fixture
def broker_url(rabbit_url: str) -> str:
    return rabbit_url


class Publishing(threading.Thread):
    """Publish one message after the other, as fast as it goes; those that were refused are tried no more."""

    def __init__(self, broker: Broker, count: int) -> None:
        super().__init__(daemon=True)
        self.broker, self.count = broker, count
        self.accepted: list[str] = []
        self.refused = 0
        self.longest_s = 0.0

    def run(self) -> None:
        while len(self.accepted) < self.count:
            ident, began = new_id(), time.monotonic()
            try:
                self.broker.publish([Message(message(ident), queue="q")])
                self.accepted.append(ident)
            except (BrokerDown, BrokerFull):
                self.refused += 1
                time.sleep(0.02)  # the broker is away
            self.longest_s = max(self.longest_s, time.monotonic() - began)


def drained(url: str) -> set[str]:
    """The texts of all that is in the queue."""
    broker = open_broker(url)
    consumer = broker.consumer(["q"])  # which pulls: what it does not find is not there
    found: set[str] = set()

    def take_all() -> bool:
        deliveries = consumer.claim(1000)
        found.update(text_of(d.raw) for d in deliveries)
        consumer.settle([Settlement(d) for d in deliveries])
        return not deliveries and not broker.administration.depth("q").ready

    wait_for(take_all, 60)
    consumer.close()
    broker.close()
    return found


@pytest.mark.own_rabbit
def test_what_was_confirmed_outlives_kills(rabbit_url: str, rabbit_server: RabbitServer) -> None:
    kills, count = size(1, 5), size(1000, 20_000)
    publishing = Publishing(open_broker(rabbit_url), count)
    publishing.start()

    for kill in range(kills):
        wait_for(lambda kill=kill: len(publishing.accepted) >= (kill + 1) * count // (kills + 1), 60)
        rabbit_server.restart()
    publishing.join(120)

    assert not publishing.is_alive()
    found = drained(rabbit_url)
    lost = set(publishing.accepted) - found
    print(
        f"{kills} kills under {count} publishes: {len(lost)} of those accepted lost, {publishing.refused} "
        f"refused, the longest took {publishing.longest_s:.2f} s"
    )
    assert publishing.refused
    assert not lost


ALARMS = {
    "memory": (
        "vm_memory_monitor:set_vm_memory_high_watermark(0.0)",
        "vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1000000000})",
    ),
    "disk": (
        "rabbit_disk_monitor:set_disk_free_limit(1000000000000000)",
        "rabbit_disk_monitor:set_disk_free_limit(1000000)",
    ),
}


@pytest.fixture
def alarm(rabbit_server: RabbitServer, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    on, off = ALARMS[request.param]
    yield on, off
    rabbit_server.ask(off)


def alarms(server: RabbitServer) -> bool:
    return server.ask("rabbit_alarm:get_alarms()") != "[]"


@pytest.mark.own_rabbit
@pytest.mark.parametrize("alarm", ["memory", "disk"], indirect=True)
def test_a_broker_without_space_is_an_error_in_time_and_works_again(
    rabbit_url: str, rabbit_server: RabbitServer, alarm: tuple[str, str]
) -> None:
    broker = open_broker(rabbit_url, {"confirm_timeout": 1.0})
    with confirms_within(ANSWER_S):
        put(broker, "q", "first")
    rounds = size(5, 100)

    for number in range(rounds):
        rabbit_server.ask(alarm[0])
        wait_for(lambda: alarms(rabbit_server))
        began = time.monotonic()
        with pytest.raises(BrokerFull, match="short of memory or disk"):
            put(broker, "q", f"refused {number}")
        assert time.monotonic() - began < ANSWER_S / 2
        rabbit_server.ask(alarm[1])
        wait_for(lambda: not alarms(rabbit_server))
        with confirms_within(ANSWER_S):
            put(broker, "q", f"taken {number}")
    broker.close()

    assert {"first", *(f"taken {n}" for n in range(rounds))} <= drained(rabbit_url)


@pytest.mark.own_rabbit
@pytest.mark.parametrize("alarm", ["memory"], indirect=True)
@pytest.mark.parametrize("fleet", ["rabbit"], indirect=True)
def test_a_worker_goes_on_while_the_broker_takes_no_messages(
    fleet: Fleet, rabbit_server: RabbitServer, alarm: tuple[str, str], redis_url: str
) -> None:
    """What is only acknowledged is acknowledged; what is to be sent is sent when there is space."""
    kept = {"ignore_result": False}
    fleet.publish({"a": fleet.work("a", chain=[fleet.link("b")], **kept)})
    fleet.expect(["b"])
    worker = fleet.worker(app="tests.faults.project:hasty_app", backend=redis_url)
    fleet.wait_done()  # so that it has a connection to send on

    fleet.publish_many(10, 0.2)
    fleet.wait_started(4)
    rabbit_server.ask(alarm[0])
    fleet.wait_done()
    rabbit_server.ask(alarm[1])
    wait_for(lambda: not alarms(rabbit_server))
    fleet.publish({"c": fleet.work("c", 0.5, chain=[fleet.link("d")], **kept)})
    fleet.wait_started(13)
    rabbit_server.ask(alarm[0])
    worker.wait_output("short of memory or disk")
    rabbit_server.ask(alarm[1])
    fleet.expect(["d"])
    fleet.wait_done()

    fleet.verdict().require(0)
    no_surprises([worker])


def test_a_channel_that_failed_is_not_used_again(opened: Open, rabbit_url: str) -> None:
    with proxied(rabbit_url, "amqp") as proxy:
        broker = open_broker(proxy.url)
        broker.publish([Message(message("first"), queue="q")])
        used = {id(broker._publisher._channel)}  # type: ignore[attr-defined]
        kept = [broker._publisher._channel]  # type: ignore[attr-defined]  # so that its id is not given again

        for number in range(5):
            proxy.hole(None, "down")
            with confirms_within(0.3), pytest.raises(BrokerDown, match="not confirmed within"):
                broker.publish([Message(message(f"unsure {number}"), queue="q")])
            proxy.clear()
            broker.publish([Message(message(f"sure {number}"), queue="q")])
            kept.append(broker._publisher._channel)  # type: ignore[attr-defined]
            used.add(id(kept[-1]))

        assert len(used) == 6
        assert {f"sure {n}" for n in range(5)} <= drained(rabbit_url)
        broker.close()


@pytest.mark.parametrize("fleet", ["rabbit"], indirect=True)
def test_what_was_revoked_while_a_worker_was_cut_off_never_runs(fleet: Fleet) -> None:
    with proxied(fleet.url, "amqp") as proxy:
        worker = fleet.worker("-l", "INFO", url=proxy.url)
        revoked = fleet.work("revoked", countdown=12.0)
        fleet.app.broker.publish([revoked])
        fleet.publish({"after": fleet.work("after", countdown=14.0)})

        proxy.hole(None)
        proxy.reset()
        fleet.app.control.revoke([task.read(revoked.raw).id])
        proxy.clear()
        fleet.wait_done()

    assert "revoked" not in fleet.history.tasks
    no_surprises([worker])


@pytest.mark.own_rabbit
@pytest.mark.parametrize("fleet", ["rabbit"], indirect=True)
def test_a_worker_outlives_its_rabbitmq(fleet: Fleet, rabbit_server: RabbitServer, redis_url: str) -> None:
    kills = size(1, 10)
    worker = fleet.worker(backend=redis_url)
    for kill in range(kills):
        fleet.publish_many(20, 0.1, f"k{kill}-", ignore_result=False)
        fleet.wait_started(20 * kill + 6)
        rabbit_server.restart()
        began = time.monotonic()
        fleet.app.close()
        wait_for(fleet.history.all_finished, 60)
        print(f"all was done {time.monotonic() - began:.2f} s after the broker was back")
    fleet.wait_done()

    worker.term()
    assert worker.wait(60) == 0
    fleet.verdict().require(0)
    no_surprises([worker])


# --- several endpoints


@pytest.fixture
def endpoints(rabbit_url: str) -> Iterator[tuple[Proxy, Proxy]]:
    """Two ways to one broker."""
    with proxied(rabbit_url, "amqp") as one, proxied(rabbit_url, "amqp") as other:
        yield one, other


@pytest.mark.parametrize("fleet", ["rabbit"], indirect=True)
def test_worker_and_publisher_go_on_at_the_next_endpoint(
    fleet: Fleet, endpoints: tuple[Proxy, Proxy], redis_url: str
) -> None:
    one, other = endpoints
    url = f"{one.url};{other.url}"
    publisher = open_broker(url)
    worker = fleet.worker("-l", "INFO", url=url, backend=redis_url)
    publisher.publish([fleet.work("before")])
    fleet.expect(["before"])
    fleet.wait_done()
    assert not other.counts()["connections"]

    began = time.monotonic()
    one.close()
    publisher.publish([fleet.work("after")])
    published_s = time.monotonic() - began
    fleet.expect(["after"])
    wait_for(lambda: fleet.history.count("finished") == 2)
    ran_s = time.monotonic() - began

    print(f"fail-over: published after {published_s:.2f} s, ran after {ran_s:.2f} s")
    assert published_s < BACK_S and ran_s < BACK_S
    assert publisher.info()["port"] == other.port
    assert ":guest@" not in worker.output() and "guest:********@" in worker.output()
    assert "guest" not in str(publisher.info()["alternates"]).replace("guest:********@", "")
    publisher.close()


def test_a_list_whose_endpoints_are_all_away_is_down_with_every_password_masked(
    endpoints: tuple[Proxy, Proxy],
) -> None:
    one, other = endpoints
    url = f"{one.url};{other.url}".replace("guest:guest", "guest:secret")
    one.close()
    other.close()

    with pytest.raises(BrokerDown) as caught:
        open_broker(url).check()

    assert "secret" not in str(caught.value)
    assert str(caught.value).count("********") == 2


# --- quorum queues


@pytest.mark.parametrize("waits_in", ["the broker", "the queue"])
@pytest.mark.parametrize("fleet", ["rabbit"], indirect=True)
def test_delayed_tasks_on_a_quorum_queue_hold_up_nobody(fleet: Fleet, opened: Open, waits_in: str) -> None:
    """In the queue: as from a client that leaves it to the workers, who then move each of them."""
    delayed, quick, queue = size(200, 1000), 100, "quorum"
    opened(task_create_missing_queue_type="quorum").consumer([queue]).close()
    later = [fleet.work(f"d{i}", countdown=600.0, queue=queue) for i in range(delayed)]
    if waits_in == "the queue":
        later = [Message(m.raw, queue=queue) for m in later]
    fleet.app.broker.publish(later)
    worker = fleet.worker("-c", "2", "-Q", queue)
    soon = {f"q{i}": Message(fleet.work(f"q{i}").raw, queue=queue) for i in range(quick)}

    began = time.monotonic()
    fleet.publish(soon)
    fleet.wait_finished(quick, 100)
    took_s = time.monotonic() - began

    print(f"{quick} tasks behind {delayed} that wait in {waits_in}: {took_s:.2f} s")
    assert took_s < 100  # a wait for those that are delayed takes 600
    assert fleet.history.count("started") == quick
    no_surprises([worker])
