"""Pools that grow with the load and shrink without it."""

from __future__ import annotations

from typing import Any

import pytest

from qcore import App
from qcore.errors import ConfigError
from qcore.worker.services.autoscale import Autoscaler, bounds, keepalive_s
from tests.support.processes import Processes
from tests.support.waiting import wait_for


class FakePool:
    """Only its numbers."""

    def __init__(self, size: int) -> None:
        self.size, self.held = size, 0

    def busy(self) -> int:
        return self.held

    def grow(self, n: int) -> None:
        self.size += n

    def shrink(self, n: int) -> None:
        self.size -= n


def made(size: int = 2, most: int = 10, least: int = 2) -> tuple[Autoscaler, Any]:
    pool: Any = FakePool(size)
    return Autoscaler(pool, most, least, keepalive_s=30.0), pool


def test_it_grows_to_its_bound_while_messages_wait() -> None:
    scaler, pool = made()
    sizes = []

    for step in range(8):
        pool.held = pool.size
        scaler.look(lambda: 99, 100.0 + step)
        sizes.append(pool.size)

    assert sizes == [3, 4, 6, 9, 10, 10, 10, 10]


def test_it_does_not_grow_when_nothing_waits_or_a_slot_is_free() -> None:
    scaler, pool = made(4)

    pool.held = 4
    scaler.look(lambda: 0, 100.0)
    pool.held = 3
    scaler.look(lambda: 99, 101.0)

    assert pool.size == 4


def test_it_shrinks_to_what_it_needed_after_being_idle_for_long_enough() -> None:
    scaler, pool = made(10)
    pool.held = 10
    scaler.look(lambda: 99, 100.0)

    for now, held in ((110.0, 1), (120.0, 5), (129.0, 0)):
        pool.held = held
        scaler.look(lambda: 0, now)
    assert pool.size == 10
    scaler.look(lambda: 0, 131.0)
    assert pool.size == 5
    scaler.look(lambda: 0, 162.0)

    assert pool.size == 2


def test_other_bounds_are_followed_at_once() -> None:
    scaler, pool = made(4)

    scaler.change(3, 1)
    scaler.look(lambda: 0, 100.0)
    small = pool.size
    scaler.change(9, 6)
    scaler.look(lambda: 0, 100.0)

    assert (small, pool.size) == (3, 6)


def test_bounds_are_read_as_celery_writes_them() -> None:
    assert bounds("10,3", 512) == (10, 3)
    assert bounds("10", 512) == (10, 0)
    assert bounds("3,10", 512) == (10, 3)
    for wrong in ("x", "1,2,3", "0,0", "1000,1", "3,-1"):
        with pytest.raises(ConfigError, match="--autoscale takes MAX,MIN"):
            bounds(wrong, 512)
    with pytest.raises(ConfigError, match="AUTOSCALE_KEEPALIVE"):
        keepalive_s({"AUTOSCALE_KEEPALIVE": "soon"})


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_scales_its_pool(pool: str, redis_url: str, processes: Processes) -> None:
    app = App("scaled", broker=redis_url, set_as_current=False)
    worker = processes.start_qcore_worker(
        redis_url, "-P", pool, "--autoscale", "4,1", env={"AUTOSCALE_KEEPALIVE": "0.5"}
    )

    def scaler() -> dict[str, Any]:
        (answer,) = app.control.inspect(timeout=60).stats().values()
        return dict(answer["autoscaler"])

    assert scaler() == {"max": 4, "min": 1, "current": 1, "qty": 0}
    results = [app.send_task("proj.nap", (0.3,)) for _ in range(40)]
    wait_for(lambda: scaler()["current"] == 4, what="it has grown")
    assert [r.get(timeout=60) for r in results] == [0.3] * 40
    wait_for(lambda: scaler()["current"] == 1, what="it has shrunk")
    app.control.autoscale(3, 2)
    wait_for(lambda: scaler()["current"] == 2, what="it follows the command")

    assert (scaler()["max"], scaler()["min"]) == (3, 2)
    worker.term()
    assert worker.wait() == 0
    app.close()


@pytest.mark.parametrize(
    ("kind", "pool"),
    [("celery", "prefork"), *(("qcore", name) for name in ("prefork", "threads", "gevent", "asyncio"))],
)
def test_a_pool_without_slots_gets_them_with_its_tasks(
    kind: str, pool: str, redis_url: str, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App("scaled", broker=redis_url, set_as_current=False)
    monkeypatch.setenv("AUTOSCALE_KEEPALIVE", "0.5")
    if kind == "celery":
        processes.start_celery_worker(redis_url, redis_url, "-P", pool, "--autoscale", "2")
    else:
        processes.start_qcore_worker(redis_url, "-P", pool, "--autoscale", "2")

    def current() -> int | None:
        answers = app.control.inspect(timeout=60).stats() or {}  # Celery's is ready before it listens
        return next((int(answer["autoscaler"]["current"]) for answer in answers.values()), None)

    wait_for(lambda: current() == 0, what="it has no slot")
    for _ in range(2):
        assert app.send_task("proj.add", (1, 2)).get(timeout=60) == 3
        wait_for(lambda: current() == 0, what="it has shrunk")
    results = [app.send_task("proj.nap", (0.3,)) for _ in range(6)]
    wait_for(lambda: current() == 2, what="it has grown")

    assert [r.get(timeout=60) for r in results] == [0.3] * 6
    app.close()


def test_a_worker_without_autoscale_says_so(redis_url: str, processes: Processes) -> None:
    app = App("fixed", broker=redis_url, set_as_current=False)
    processes.start_qcore_worker(redis_url, "-c", "1")

    (reply,) = app.control.autoscale(3, 2, reply=True, timeout=60)

    assert "Autoscale not enabled" in str(reply)
    app.close()


def test_a_pool_that_cannot_grow_refuses_autoscale(redis_url: str, processes: Processes) -> None:
    worker = processes.start_qcore_worker(redis_url, "-P", "solo", "--autoscale", "4,1", ready=False)

    assert worker.wait() == 78
    assert "the solo pool cannot grow" in worker.output()
