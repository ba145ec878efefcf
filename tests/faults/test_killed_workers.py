"""Whole workers killed, again and again, beside one that lives: nothing is lost, what was cut runs soon."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import pytest

from qcore.brokers.base import DEFAULT_LEASE_S
from tests.faults import SEED, size
from tests.faults.fleet import Fleet, children, no_surprises
from tests.faults.history import Task
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

LEASE_S = 2.0


@pytest.mark.parametrize("fleet", ["redis", "sqlite", "rabbit"], indirect=True)
def test_what_a_killed_worker_held_is_run_by_another_within_the_lease(fleet: Fleet) -> None:
    tasks, kills = size(1332, 10_000), size(4, 50)
    dice = random.Random(SEED)
    survivor = fleet.worker(lease_s=LEASE_S)
    victim = fleet.worker(lease_s=LEASE_S)
    kills_at: list[tuple[float, float]] = []  # before the signal, and when the process was gone

    for kill in range(kills):
        # A share for each round, so that every kill comes in the middle of work.
        fleet.publish_many(tasks // kills, 0.015, f"k{kill}-")
        fleet.wait_finished(kill * (tasks // kills) + 10)
        time.sleep(dice.random() * 0.1)
        pids = set(children(victim))
        wait_for(lambda: fleet.history.all_finished() or _is_at_work(fleet.history.tasks, pids))  # noqa: B023
        at = time.time()
        victim.kill9()
        kills_at.append((at, time.time()))
        victim = fleet.worker(lease_s=LEASE_S)
    fleet.wait_done(120)

    verdict = fleet.verdict()
    verdict.require(kills * (2 * 64 + 2))
    waits = sorted(wait for task in verdict.tasks.values() for wait in _waits(task, kills_at))
    print(
        f"{fleet.url[:6]}: {verdict}; {len(waits)} cut, run again after {waits[0]:.2f} to {waits[-1]:.2f} s"
    )
    assert len(waits) >= kills // 2, "the kills came too late to mean anything"
    assert waits[len(waits) * 99 // 100] < DEFAULT_LEASE_S / 2  # so it was this lease that ended
    no_surprises([survivor])


def _is_at_work(tasks: Mapping[str, Task], pids: set[int]) -> bool:
    """Whether one of these processes has begun a task that it has not finished."""
    return any(
        sum(e.pid in pids for e in task.started) > sum(e.pid in pids for e in task.finished)
        for task in tasks.values()
    )


def _waits(task: Task, kills_at: Sequence[tuple[float, float]]) -> Iterator[float]:
    """How long after the kill that cut a run of it short the next one began, for each such run."""
    finished = {(e.pid, e.at) for e in task.finished}
    for run, following in pairwise(sorted(task.started, key=lambda e: e.at)):
        if not any(pid == run.pid and at >= run.at for pid, at in finished):
            yield following.at - next((at for at, gone in kills_at if gone >= run.at), kills_at[-1][0])


@pytest.mark.parametrize("fleet", ["redis", "sqlite"], indirect=True)
def test_a_worker_of_the_same_host_need_not_wait_for_the_lease_of_a_killed_one(fleet: Fleet) -> None:
    survivor, victim = fleet.worker(lease_s=3600), fleet.worker(lease_s=3600)
    for kill in range(2):
        fleet.publish_many(200, 0.01, f"k{kill}-")
        fleet.wait_finished(kill * 200 + 20)
        victim.kill9()
        if kill:  # the one that is started next sees it too
            survivor.kill9()
            survivor = fleet.worker(lease_s=3600)
        else:
            fleet.wait_done(120)
            victim = fleet.worker(lease_s=3600)
    fleet.wait_done(120)

    fleet.verdict().require(3 * (2 * 64 + 2))
    no_surprises([survivor])
