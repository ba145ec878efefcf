"""A paused queue, and workers that come and go."""

from __future__ import annotations

import time

import pytest

from tests.faults.fleet import Fleet
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.timeout(60)]


@pytest.mark.parametrize("fleet", ["sqlite", "redis"], indirect=True)
def test_a_pause_outlives_workers(fleet: Fleet) -> None:
    broker = fleet.app.broker
    first = fleet.worker()
    fleet.publish_many(5, 0.0, "before")
    fleet.wait_done()

    broker.administration.pause("celery")
    until = time.monotonic() + 1.0  # so long a worker may not have heard of it
    wait_for(lambda: time.monotonic() > until)
    fleet.publish_many(5, 0.0, "paused")
    first.term()
    assert first.wait(60) == 0
    second = fleet.worker()
    wait_for(lambda: [q["paused"] for q in _queues(fleet)] == [True], 60)
    until = time.monotonic() + 1.5

    while time.monotonic() < until:
        depth = broker.administration.depth("celery")
        assert (depth.ready, depth.in_flight) == (5, 0)

    broker.administration.resume("celery")
    fleet.wait_done()
    assert [q["paused"] for q in _queues(fleet)] == [False]
    second.term()
    assert second.wait(60) == 0
    fleet.verdict().require(0)


def _queues(fleet: Fleet) -> list[dict[str, object]]:
    replies = fleet.app.control.inspect(timeout=1.0).active_queues() or {}
    return [queue for queues in replies.values() for queue in queues]
