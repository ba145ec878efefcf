"""RabbitMQ brings back what was held when a connection ends; what was done, or is being done, is not
done again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from qcore.app.app import App
from qcore.base.crashpoints import VARIABLE
from tests.faults import size
from tests.faults.fleet import Fleet, no_surprises
from tests.faults.proxy import Proxy, proxied
from tests.support.processes import Process
from tests.support.rabbit_server import RabbitServer
from tests.support.waiting import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.parametrize("fleet", ["rabbit"], indirect=True),
]


@pytest.fixture
def proxy(rabbit_url: str) -> Iterator[Proxy]:
    with proxied(rabbit_url, "amqp") as made:
        yield made


def outage(proxy: Proxy, seconds: float = 1.0) -> None:
    """Every connection ends, and nothing passes for that long."""
    proxy.hole(seconds)
    proxy.reset()
    time.sleep(seconds)  # the outage itself


def came_again(worker: Process) -> int:
    return worker.output().count("was redelivered while it runs here")


def outlive_outages(fleet: Fleet, proxy: Proxy, backend: str, slots: int, outages: int, last_s: int) -> None:
    worker = fleet.worker("-c", str(slots), "-l", "INFO", url=proxy.url, backend=backend)
    fleet.publish_many(1, last_s, "long", ignore_result=False)
    fleet.wait_started(1)

    for number in range(outages):
        outage(proxy)
        wait_for(lambda number=number: worker.output().count("the broker again") > number, 60)
    assert not fleet.history.count("finished")
    fleet.wait_done(last_s + 30)

    worker.term()
    assert worker.wait(60) == 0
    no_surprises([worker])
    print(f"{slots} slots, {outages} outages: {came_again(worker)} joined; {fleet.verdict()}")
    fleet.verdict().require(0)


def test_a_task_that_outlives_outages_runs_once(fleet: Fleet, proxy: Proxy, redis_url: str) -> None:
    outlive_outages(fleet, proxy, redis_url, slots=2, outages=5, last_s=size(10, 60))


def test_a_task_that_fills_its_worker_runs_once(fleet: Fleet, proxy: Proxy, redis_url: str) -> None:
    """No room to claim: what comes again waits in its queue and meets the stored result."""
    outlive_outages(fleet, proxy, redis_url, slots=1, outages=2, last_s=size(5, 60))


def test_the_outcome_of_a_run_that_was_joined_is_stored(fleet: Fleet, proxy: Proxy, redis_url: str) -> None:
    worker = fleet.worker("-l", "INFO", url=proxy.url, backend=redis_url)
    app = App("asks", broker=fleet.url, backend=redis_url, set_as_current=False)
    waits = app.send_task("faults.work", (str(fleet.path), "one", 3.0))
    fleet.wait_started(1)

    outage(proxy, 0.2)
    wait_for(lambda: came_again(worker), 60)

    assert waits.get(timeout=60) == "one"
    assert fleet.history.runs() == 1
    app.close()


def test_without_the_setting_it_runs_again(fleet: Fleet, proxy: Proxy, redis_url: str) -> None:
    worker = fleet.worker(url=proxy.url, backend=redis_url, app="tests.faults.project:twice_app")
    fleet.publish_many(1, 2.0, ignore_result=False)
    fleet.wait_started(1)

    outage(proxy, 0.2)

    wait_for(lambda: fleet.history.runs() == 2, 60)
    fleet.wait_done()
    fleet.verdict().require(1)
    no_surprises([worker])


def test_a_lost_acknowledgement_repeats_nothing(fleet: Fleet, redis_url: str) -> None:
    """The connection ends with the acknowledgement: the broker has not heard it, or we do not know."""
    cuts = size(10, 200)
    with proxied(fleet.url, "amqp") as proxy:
        worker = fleet.worker(url=proxy.url, backend=redis_url)
        fleet.publish_many(10, 0.002, "first", ignore_result=False)
        fleet.wait_done()
        proxy.cut("up", "basic.ack", every=2, times=cuts)
        for share in range(100):
            fleet.publish_many(50, 0.002, f"s{share}-", ignore_result=False)
            fleet.wait_finished(50 * share + 50)
            if proxy.counts()["cut"] >= cuts:
                break
        fleet.wait_done()
        worker.term()
        assert worker.wait(60) == 0
        print(f"{proxy.counts()['cut']} cuts: {fleet.verdict()}")
        assert proxy.counts()["cut"] == cuts

    fleet.verdict().require(0)
    no_surprises([worker])


def crash_again_and_again(fleet: Fleet, backend: str, place: str, crashes: int, at_once: int) -> None:
    """Chains pass through workers that die at their second settlement, so that each gets a little on.
    A solo worker runs nothing at that moment."""
    for wave in range(crashes // at_once):
        for chain in range(2 * at_once):
            names = [f"{wave}.{chain}{link}" for link in "abc"]
            links = [fleet.link(name) for name in names[:0:-1]]
            fleet.publish({names[0]: fleet.work(names[0], 0.02, ignore_result=False, chain=links)})
            fleet.expect(names[1:])
        env = {VARIABLE: f"{place}:2"}
        workers = [
            fleet.worker("-P", "solo", "-c", "1", backend=backend, env=env, ready=False)
            for _ in range(at_once)
        ]
        for worker in workers:
            worker.wait_output(f"crashpoint {place} reached", 60)
            worker.wait(60)
    fleet.worker("-c", "1", backend=backend)
    fleet.wait_done()
    print(f"{crashes} crashes at {place}: {fleet.verdict()}")


def test_a_chain_goes_on_after_crashes_before_its_next_link_and_none_runs_twice(
    fleet: Fleet, redis_url: str
) -> None:
    crash_again_and_again(fleet, redis_url, "stored_apart", crashes=size(20, 100), at_once=5)

    fleet.verdict().require(0)


def test_a_chain_goes_on_after_crashes_behind_its_next_link_and_none_runs_twice(
    fleet: Fleet, redis_url: str
) -> None:
    crash_again_and_again(fleet, redis_url, "sent_before_ack", crashes=size(4, 50), at_once=1)

    fleet.verdict().require(0)


def run_longer_than_the_broker_waits(fleet: Fleet, server: RabbitServer, backend: str) -> None:
    tasks, lasts_s = size(4, 200), size(6, 8)
    patience_ms, tick_ms = size(2500, 5000), size(1000, 5000)
    server.ask(f"application:set_env(rabbit, consumer_timeout, {patience_ms})")
    server.ask(f"application:set_env(rabbit, channel_tick_interval, {tick_ms})")
    try:
        slots = size(4, 50)
        worker = fleet.worker("-c", str(slots), "-P", "threads", backend=backend)
        fleet.publish_many(tasks, lasts_s, "long", ignore_result=False)
        later = fleet.publish_many(tasks, 0.0, "later", ignore_result=False, countdown=lasts_s)
        fleet.wait_done(lasts_s * 30)
        worker.term()
        assert worker.wait(60) == 0
        print(f"consumer_timeout: {fleet.verdict()}, {worker.output().count('timed out')} time-outs")
        assert "timed out" in worker.output()
        assert all(fleet.history.tasks[name].started for name in later)
        fleet.verdict().require(0)
        no_surprises([worker])
    finally:
        server.ask("application:set_env(rabbit, consumer_timeout, 1800000)")
        server.ask("application:set_env(rabbit, channel_tick_interval, 60000)")


@pytest.mark.own_rabbit
def test_a_task_longer_than_the_brokers_patience_runs_once(
    fleet: Fleet, rabbit_server: RabbitServer, redis_url: str
) -> None:
    run_longer_than_the_broker_waits(fleet, rabbit_server, redis_url)


def test_draining_keeps_the_connection(fleet: Fleet, redis_url: str) -> None:
    """A heartbeat of 2 s and a warm shutdown much longer than that: nothing comes again."""
    last_s = size(6, 20)
    worker = fleet.worker(app="tests.faults.project:beating_app", backend=redis_url, lease_s=30)
    fleet.publish_many(2, last_s, ignore_result=False)
    fleet.wait_started(2)

    worker.term()
    assert worker.wait(last_s + 20) == 0

    fleet.wait_done(5)
    assert "reconnect" not in worker.output()
    fleet.verdict().require(0)
    assert not any(event.flag for task in fleet.history.tasks.values() for event in task.started)
