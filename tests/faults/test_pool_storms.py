"""Children killed, stuck and replaced in numbers: what was theirs is run again or reported, never lost."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from qcore.errors import TimeLimitExceeded
from tests.faults import SEED, size
from tests.faults.fleet import PROJECT, Fleet, children, no_surprises
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("fleet", "tasks", "kills"),
    [("redis", size(2000, 20_000), size(30, 200)), ("sqlite", size(400, 5000), size(8, 50))],
    indirect=["fleet"],
)
def test_killed_children_lose_nothing(fleet: Fleet, tasks: int, kills: int) -> None:
    dice = random.Random(SEED)
    worker = fleet.worker(lease_s=10, app=f"{PROJECT}:patient_app")
    fleet.publish_many(tasks, 0.004)
    killed = 0

    for kill in range(kills):
        fleet.wait_finished((kill + 1) * tasks // (kills + 2))
        alive = wait_for(lambda: children(worker))
        time.sleep(dice.random() * 0.004)  # anywhere in a task
        try:
            os.kill(dice.choice(alive), signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            pass
    fleet.wait_done(120)

    verdict = fleet.verdict()
    verdict.require(killed)
    assert worker.is_running and len(children(worker)) == 2
    no_surprises([worker])
    print(f"{fleet.url[:6]}: {killed} children killed, {verdict}")


def test_hard_limits_free_their_slots(fleet: Fleet) -> None:
    count = size(20, 200)
    worker = fleet.worker("--time-limit", "0.3")
    stuck = [fleet.app.send_task("faults.spin", (i % 2 == 1,)) for i in range(count)]

    for result in stuck:
        with pytest.raises(TimeLimitExceeded):
            result.get(timeout=60)
    after = [fleet.app.send_task("faults.add", (i, 1)) for i in range(20)]

    assert [r.get(timeout=60) for r in after] == list(range(1, 21))
    assert len(children(worker)) == 2
    assert fleet.depth().in_flight == 0


def test_recycling_after_every_task_loses_nothing(fleet: Fleet) -> None:
    worker = fleet.worker("--max-tasks-per-child", "1", lease_s=10)

    fleet.publish_many(size(300, 10_000))
    fleet.wait_done(300)

    fleet.verdict().require(0)
    tasks = fleet.history.tasks.values()
    assert len({task.started[0].pid for task in tasks}) == len(tasks)
    no_surprises([worker])
