"""Tasks that take longer than the lease, wait longer than the lease, or outlive their workers."""

from __future__ import annotations

import signal
import time

import pytest

from qcore.brokers.contract.administration import Depth
from qcore.brokers.contract.records import Message
from qcore.errors import TaskRevokedError
from tests.faults import size
from tests.faults.fleet import Fleet, no_surprises, rss_kib
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

REDIS_AND_SQLITE = pytest.mark.parametrize("fleet", ["redis", "sqlite"], indirect=True)


@REDIS_AND_SQLITE
def test_a_task_longer_than_its_lease_runs_once(fleet: Fleet) -> None:
    first = fleet.worker("-c", "3")
    fleet.publish_many(3, size(3, 20))
    fleet.wait_started(3)

    idle = fleet.worker("-c", "3")
    fleet.wait_done()

    fleet.verdict().require(0)
    no_surprises([first, idle])


@REDIS_AND_SQLITE
def test_a_countdown_longer_than_the_lease_runs_once_and_in_time(fleet: Fleet) -> None:
    fleet.worker()
    fleet.worker()
    before = time.time()
    fleet.publish_many(20, countdown=3.0)

    fleet.wait_done()

    verdict = fleet.verdict(late_after_s=40.0)
    verdict.require(0, late=True)
    assert all(t.started[0].at >= before + 3.0 for t in verdict.tasks.values())


@REDIS_AND_SQLITE
def test_delayed_tasks_outlive_their_workers(fleet: Fleet) -> None:
    outlived = any(three_ends_before_they_are_due(fleet, countdown_s) for countdown_s in (6, 20, 60))

    assert outlived, "due too early for this test"
    fleet.verdict().require(0)


def three_ends_before_they_are_due(fleet: Fleet, countdown_s: float) -> bool:
    """Delayed tasks under three workers that end, and one that runs them; whether none was due before."""
    before = fleet.history.count("started")
    # One half goes to the broker's shelf at once, the other is put there by the worker that finds it.
    fleet.publish_many(20, countdown=countdown_s, prefix=f"shelved{countdown_s}-")
    names = [f"found{countdown_s}-{i}" for i in range(20)]
    found = {name: fleet.work(name, countdown=countdown_s) for name in names}
    fleet.publish({name: Message(m.raw, queue="celery") for name, m in found.items()})

    def all_are_on_the_shelf() -> bool:
        return fleet.depth() == Depth(0, 40, 0) or fleet.history.count("started") > before

    for end in (signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL):
        worker = fleet.worker()
        wait_for(all_are_on_the_shelf, what=f"all are on the shelf before {end.name}")
        in_time = fleet.history.count("started") == before
        if not in_time:
            break
        if end is signal.SIGKILL:
            worker.kill9()
        else:
            worker.term(end)
            worker.wait()
    in_time = in_time and fleet.history.count("started") == before
    fleet.worker()
    fleet.wait_done(120)
    return in_time


@pytest.mark.timeout(400)
def test_a_heap_of_delayed_tasks_costs_the_worker_no_memory(fleet: Fleet) -> None:
    count = size(20_000, 50_000)
    worker = fleet.worker("-P", "solo", lease_s=10)
    fleet.publish_many(2000)
    fleet.wait_done()
    before = rss_kib(worker.pid)

    raw = [fleet.work(f"d{i}", countdown=3600).raw for i in range(count)]
    for start in range(0, count, 1000):
        fleet.app.broker.publish([Message(r, queue="celery") for r in raw[start : start + 1000]])
    wait_for(lambda: fleet.depth().delayed == count, 300, "the worker has put all of them aside")

    grown = rss_kib(worker.pid) - before
    print(f"{count} delayed: {before} KiB, {grown:+} KiB")
    assert grown <= 5 * 1024


@REDIS_AND_SQLITE
def test_a_revoke_outlives_every_worker_that_heard_it(fleet: Fleet) -> None:
    first = fleet.worker()
    messages = {f"t{i}": fleet.work(f"t{i}", countdown=3.0, ignore_result=False) for i in range(20)}
    names = [f"t{i}" for i in range(0, 20, 2)]
    fleet.app.broker.publish(list(messages.values()))
    ids = {n: _id_of(messages[n]) for n in names}

    fleet.app.control.revoke(list(ids.values()))
    first.kill9()
    second = fleet.worker()
    second.kill9()
    fleet.worker()

    for task_id in ids.values():
        with pytest.raises(TaskRevokedError):
            fleet.app.AsyncResult(task_id).get(timeout=60)
    fleet.wait_finished(10)
    wait_for(lambda: fleet.depth().in_flight == 0)
    assert not set(names) & set(fleet.history.tasks)


def _id_of(message: Message) -> str:
    from qcore.wire import envelope

    return str(envelope.decode(message.raw).headers["id"])


def test_a_soft_stop_ends_with_the_last_task_or_at_its_deadline(fleet: Fleet) -> None:
    quick = fleet.worker("--drain-timeout", "100")
    fleet.publish_many(2, 1.0, "quick")
    fleet.wait_started(2)
    quick.term()
    assert quick.wait(50) == 0

    slow = fleet.worker("--drain-timeout", "1")
    fleet.publish_many(2, 8.0, "slow")
    fleet.wait_started(4)
    slow.term()
    began = time.monotonic()
    assert slow.wait(60) == 3
    until_deadline = time.monotonic() - began
    fleet.worker()
    fleet.wait_done()

    assert until_deadline > 0.9
    verdict = fleet.verdict()
    verdict.require(2)
    assert verdict.duplicated == {"slow0", "slow1"}
