"""Schedulers that compete, die, and lose their store: each instant is published once all the same."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from qcore.base.crashpoints import VARIABLE
from qcore.brokers.contract.schedules import HISTORY_SIZE, ScheduleStore
from qcore.brokers.redis.schedules import FIRE
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerDown
from tests.contracts.consuming import nothing_for, take, text_of, texts
from tests.faults import size
from tests.faults.proxy import proxied
from tests.support.firing import instant, open_store
from tests.support.processes import Process, Processes
from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.timeout(180)]

KINDS = ("redis", "sqlite", "sql")
PLACES = ("before_fire", "fire_uncommitted", "fired")  # a script has no transaction
QUEUE = "q"


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sql":
        return f"db+sqlite:///{tmp_path}/schedules.db"
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def scheduler(processes: Processes, url: str, by: str, count: int, **env: str) -> Process:
    words = (sys.executable, "-m", "tests.support.firing", url, by, str(count), QUEUE)
    return processes.start(*words, name=by, env=env, imports="qctl")


def ready(url: str) -> ScheduleStore:
    """The store, with the one entry."""
    store = open_store(url)
    store.declare("app", {"a": b"1"})
    return store


def cursor(store: ScheduleStore) -> int:
    (found,) = store.named(["a"])
    assert found is not None
    return found.state.cursor_us


def published(store: ScheduleStore, url: str) -> list[str]:
    """The ids of all messages, in order; those of a queue are taken from it."""
    if store.uses_outbox:
        return [text_of(item.message.raw) for item in store.outbox(10_000)]
    broker = open_broker(url)
    ready_now = broker.administration.depth(QUEUE).ready
    consumer = broker.consumer([QUEUE])
    found = texts(take(consumer, ready_now))
    nothing_for(consumer)
    consumer.close()
    broker.close()
    return found


def require_each_once(store: ScheduleStore, url: str, count: int) -> list[str]:
    """Each instant has one message, in order, and the state and the history say the same."""
    ids = published(store, url)
    assert [int(i.partition("-")[0]) for i in ids] == list(range(1, count + 1))
    (found,) = store.named(["a"])
    assert found is not None
    assert (found.state.cursor_us, found.state.runs, found.state.last_task_id) == (count, count, ids[-1])
    assert [record.task_id for record in store.history("a")] == ids[::-1][:HISTORY_SIZE]
    return ids


def test_of_eight_schedulers_each_instant_is_published_once(url: str, processes: Processes) -> None:
    store, count = open_store(url), size(100, 2000)
    store.clock()  # its tables are there
    running = [scheduler(processes, url, f"s{i}", count) for i in range(8)]
    for one in running:
        one.wait_output("waiting")

    store.declare("app", {"a": b"1"})

    assert [one.wait() for one in running] == [0] * 8
    ids = require_each_once(store, url, count)
    took = {one.log.name[:2]: re.findall(r"took (\d+)", one.output()) for one in running}
    assert sorted(f"{n}-{by}" for by, numbers in took.items() for n in numbers) == sorted(ids)


@pytest.mark.parametrize(
    ("url", "place"),
    [(kind, place) for kind in KINDS for place in PLACES if (kind, place) != ("redis", "fire_uncommitted")],
    indirect=["url"],
)
def test_a_scheduler_that_dies_here_neither_loses_nor_repeats_an_instant(
    url: str, place: str, processes: Processes
) -> None:
    store, count = ready(url), 12

    dying = scheduler(processes, url, "s0", count, **{VARIABLE: f"{place}:2"})
    dying.wait_output(f"crashpoint {place} reached")
    dying.wait()
    assert cursor(store) == (6 if place == "fired" else 3)
    assert scheduler(processes, url, "s1", count).wait() == 0

    ids = require_each_once(store, url, count)
    assert [i.endswith("-s0") for i in ids].count(True) == (6 if place == "fired" else 3)


def test_a_killed_server_that_keeps_its_data_neither_loses_nor_repeats_an_instant(
    processes: Processes,
) -> None:
    server, count = RedisServer(require_server(), "--appendonly", "yes", "--appendfsync", "always"), 100_000
    try:
        store = ready(server.url)
        running = [scheduler(processes, server.url, f"s{i}", count) for i in range(2)]
        for _ in range(size(2, 10)):
            seen = cursor(store)
            wait_for(lambda seen=seen: cursor(store) > seen + 20)  # type: ignore[misc]
            server.kill9()
            wait_for(lambda: all(one.output().endswith("down\n") for one in running))
            server.restart()
        seen = cursor(store)
        wait_for(lambda: cursor(store) > seen + 20)
        for one in running:
            one.kill9()

        require_each_once(store, server.url, cursor(store))
    finally:
        server.stop()


def test_a_lost_answer_and_a_second_try_publish_an_instant_once(redis_url: str) -> None:
    store, count = ready(redis_url), size(40, 400)
    store.fire([instant(1, "first", QUEUE)])  # the server knows the script
    with proxied(redis_url, "redis") as proxy:
        unsure = open_store(proxy.url)
        proxy.cut("down", f"evalsha:{FIRE.sha}", every=2, times=count)
        lost = 0
        for number in range(2, count + 1):
            try:
                assert unsure.fire([instant(number, "s", QUEUE)]) == [None]
            except BrokerDown:
                (found,) = unsure.fire([instant(number, "s", QUEUE)])
                assert found is not None and found.last_task_id == f"{number}-s"
                lost += 1
        cuts = proxy.counts()["cut"]

    assert lost == cuts > count / 3
    require_each_once(store, redis_url, count)
