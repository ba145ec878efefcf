"""The result store goes away while the broker stays: no result and no task is lost, and nothing piles up."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from qcore import App
from qcore.wire import envelope
from tests.faults import FULL, size
from tests.faults.fleet import Fleet, no_surprises, rss_kib
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def store() -> Iterator[RedisServer]:
    """A result store apart that keeps its data over a kill."""
    server = RedisServer(require_server(), "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.stop()


def publish_with_results(fleet: Fleet, count: int, seconds: float, prefix: str = "t") -> dict[str, str]:
    """So many tasks that keep their results; task ids by name."""
    work = {f"{prefix}{i}": fleet.work(f"{prefix}{i}", seconds, ignore_result=False) for i in range(count)}
    fleet.publish(work)
    return {name: str(envelope.decode(message.raw).headers["id"]) for name, message in work.items()}


@pytest.mark.parametrize("fleet", ["redis", *(["sqlite"] if FULL else []), "rabbit"], indirect=True)
def test_a_result_store_that_goes_away_costs_no_result_and_no_task(fleet: Fleet, store: RedisServer) -> None:
    tasks, outages, away_s = size(1000, 5000), size(2, 5), size(3, 20)
    worker = fleet.worker(lease_s=10, env={"QCTL_RESULT_BACKEND": store.url})
    ids = publish_with_results(fleet, tasks, 0.004)
    fleet.wait_finished(tasks // 20)
    before = rss_kib(worker.pid)
    left_waiting = []

    for outage in range(outages):
        fleet.wait_finished((outage + 1) * tasks // (outages + 2))
        store.kill9()
        time.sleep(away_s)  # enough to run all of them
        left_waiting.append(tasks - fleet.history.runs())
        store.start()
    fleet.wait_done(120)

    grown = rss_kib(worker.pid) - before
    reader = App("reader", broker=fleet.url, result_backend=store.url, set_as_current=False)
    # RabbitMQ does not tell what is in flight: the last results may be on their way.
    wait_for(lambda: None not in reader.results.get(list(ids.values())), what="every result in the store")
    reader.close()
    verdict = fleet.verdict()
    print(f"{verdict}; waiting after each outage: {left_waiting}, {grown:+} KiB")
    verdict.require(0)
    assert min(left_waiting) > 0, "tasks were claimed while their results could not be kept"
    assert grown <= 20 * 1024
    no_surprises([worker])


def test_a_worker_that_leaves_while_the_store_is_away_gives_back_what_ran(
    fleet: Fleet, store: RedisServer
) -> None:
    worker = fleet.worker("-c", "2", lease_s=30, env={"QCTL_RESULT_BACKEND": store.url})
    publish_with_results(fleet, 2, 0.5)
    fleet.wait_started(2)
    store.kill9()
    fleet.wait_finished(2)
    wait_for(lambda: "is unreachable" in worker.output())

    worker.term(signal.SIGQUIT)

    assert worker.wait(60) == 3
    assert fleet.depth().ready == 2
    assert fleet.depth().in_flight == 0
