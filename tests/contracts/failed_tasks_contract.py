"""The part of the broker suite about failed tasks: kept with the settlement, listed, tried again once."""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import Any

import pytest

from qcore.brokers.base import Broker
from qcore.brokers.contract.failed_tasks import FailedTaskCounts, RetryRequest
from qcore.brokers.contract.records import Settlement
from qcore.errors import Unsupported
from qcore.wire.failure import FailedTask
from tests.contracts.consuming import Open, end, message, needs, put, take, text_of
from tests.support.waiting import wait_for


@cache
def _raw(name: str) -> bytes:
    return message(name)


def failure(name: str, **more: Any) -> FailedTask:
    facts = {"exc_type": "ValueError", "exc_message": "no", "ttl_s": 60.0, "traceback": "tb", **more}
    return FailedTask(task_id=name, name="proj.add", queue="q", raw=_raw(name), **facts)


def ids(broker: Broker, **query: Any) -> list[str]:
    """All of them, page by page."""
    found: list[str] = []
    cursor = ""
    while True:
        page = broker.failed_tasks.page(after=cursor, **query)
        found += [one.task_id for one in page.entries]
        cursor = page.cursor
        if not cursor:
            return found


class Failing:
    def test_a_failure_is_kept_in_the_step_that_ends_its_delivery(self, broker: Broker, queue: str) -> None:
        needs(broker, "failures")
        put(broker, queue, "a", "b")
        consumer = broker.consumer([queue])
        a, b = take(consumer, 2)
        before = time.time()

        assert end(consumer, b) == []
        assert end(consumer, a, failure=failure("a", args="(1,)", tries=3, runtime_s=0.5)) == []
        late = consumer.settle([Settlement(b, failure=failure("b"))])

        assert late == [b.number]
        (found,) = broker.failed_tasks.page(whole=True).entries
        assert before - 1 < found.failed_at < time.time() + 1
        found.failed_at = 0.0
        assert found == failure("a", args="(1,)", tries=3, runtime_s=0.5)
        (bare,) = broker.failed_tasks.page().entries
        assert (bare.task_id, bare.traceback, bare.raw) == ("a", "", b"")

    def test_failures_are_listed_newest_first_in_pages(self, broker: Broker) -> None:
        needs(broker, "failures")
        broker.failed_tasks.store([failure(f"t{i}") for i in range(25)])
        newest = [f"t{i}" for i in reversed(range(25))]

        first = broker.failed_tasks.page(limit=10)
        broker.failed_tasks.store([failure("later")])
        broker.failed_tasks.forget(["t12", "t3", "nobody"])
        rest = ids(broker, limit=10)
        second = broker.failed_tasks.page(limit=10, after=first.cursor)

        assert [f.task_id for f in first.entries] == newest[:10]
        assert [f.task_id for f in second.entries] == [t for t in newest[10:21] if t != "t12"]
        assert rest == ["later", *[t for t in newest if t not in ("t12", "t3")]]

    def test_failures_between_two_times_are_found(self, broker: Broker) -> None:
        needs(broker, "failures")
        broker.failed_tasks.store([failure("a"), failure("b"), failure("c")])
        c, b, a = broker.failed_tasks.page().entries

        assert ids(broker, since=b.failed_at - 2e-7, until=b.failed_at + 2e-7) == ["b"]
        assert ids(broker, since=c.failed_at + 1) == ids(broker, until=a.failed_at - 1) == []

    def test_one_that_fails_again_takes_the_place_of_the_older(self, broker: Broker) -> None:
        needs(broker, "failures")
        broker.failed_tasks.store([failure("a"), failure("b")])
        broker.failed_tasks.retry([RetryRequest("a", "new", message("new"), "q")])

        broker.failed_tasks.store([failure("a", exc_type="KeyError")])

        assert ids(broker) == ["a", "b"]
        (again,) = broker.failed_tasks.of(["a"])
        assert again is not None
        assert (again.exc_type, again.retried_as) == ("KeyError", "")
        assert broker.failed_tasks.counts() == FailedTaskCounts(2, 0)

    def test_failures_end_after_their_time(self, opened: Open) -> None:
        broker = opened(failed_ttl_s=0.3)
        needs(broker, "failures")
        broker.failed_tasks.store([failure("a", ttl_s=0.3), failure("b", ttl_s=0.3)])
        assert ids(broker) == ["b", "a"]

        wait_for(lambda: ids(broker) == [])
        broker.failed_tasks.store([failure("c", ttl_s=60.0)])

        assert ids(broker) == ["c"]
        assert broker.failed_tasks.of(["a"]) == [None]
        assert broker.failed_tasks.counts() == FailedTaskCounts(1, 0)

    def test_when_there_are_too_many_the_oldest_go_and_are_counted(self, opened: Open) -> None:
        broker = opened(failed_max=3)
        needs(broker, "failures")

        for name in "abcde":
            broker.failed_tasks.store([failure(name)])

        assert ids(broker) == ["e", "d", "c"]
        assert broker.failed_tasks.counts() == FailedTaskCounts(3, 2)

    def test_a_failure_is_tried_again_once(self, opened: Open, queue: str) -> None:
        broker, other = opened(), opened()
        needs(broker, "failures")
        broker.failed_tasks.store([failure("a"), failure("b")])

        first = broker.failed_tasks.retry(
            [RetryRequest("a", "a2", message("a2"), queue), RetryRequest("gone", "x", message("x"), queue)]
        )
        second = other.failed_tasks.retry(
            [RetryRequest("a", "a3", message("a3"), queue), RetryRequest("b", "b2", message("b2"), queue, 9)]
        )

        assert (first, second) == (["a2", ""], ["a2", "b2"])
        got = take(broker.consumer([queue]), 2)
        assert [(text_of(d.raw), d.redelivered) for d in got] == [("a2", False), ("b2", False)]
        assert [f.retried_as for f in broker.failed_tasks.page().entries] == ["b2", "a2"]
        assert queue in broker.administration.queues() and broker.administration.depth(queue).ready == 0

    def test_of_many_that_try_again_at_once_one_wins(self, opened: Open, queue: str) -> None:
        broker = opened()
        needs(broker, "failures")
        broker.failed_tasks.store([failure(f"t{i}") for i in range(40)])
        owners: list[list[str]] = []

        def try_all(name: str) -> None:
            mine = opened()
            tries = [RetryRequest(f"t{i}", f"{name}{i}", message(f"{name}{i}"), queue) for i in range(40)]
            owners.append(
                [o for start in range(0, 40, 5) for o in mine.failed_tasks.retry(tries[start : start + 5])]
            )

        threads = [threading.Thread(target=try_all, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(owners) == 3 and owners[0] == owners[1] == owners[2]
        published = [text_of(d.raw) for d in take(broker.consumer([queue]), 40)]
        assert sorted(published) == sorted(owners[0])
        assert broker.administration.depth(queue).ready == 0

    def test_a_new_try_wakes_a_sleeping_consumer(self, broker: Broker, queue: str) -> None:
        needs(broker, "failures")
        broker.failed_tasks.store([failure("a")])
        consumer = broker.consumer([queue])

        broker.failed_tasks.retry([RetryRequest("a", "b", message("b"), queue, 9)])

        assert [text_of(d.raw) for d in take(consumer, 1, 0.9)] == ["b"]

    def test_prefixes_keep_failures_apart(self, opened: Open) -> None:
        one, two = opened(global_keyprefix="one:"), opened(global_keyprefix="two:")
        needs(one, "failures")
        if one.name != "redis":
            pytest.skip("only Redis knows prefixes")
        one.failed_tasks.store([failure("a")])

        assert (ids(one), ids(two)) == (["a"], [])

    def test_what_keeps_no_failures_says_so(self, broker: Broker) -> None:
        if broker.features.failures:
            pytest.skip("it keeps them")

        for ask in (
            broker.failed_tasks.page,
            broker.failed_tasks.counts,
            lambda: broker.failed_tasks.retry([]),
        ):
            with pytest.raises(Unsupported):
                ask()
