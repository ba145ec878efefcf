"""A worker under load for long: memory, descriptors, threads and connections stay as they are.

QCORE_SOAK says for how many seconds (`make soak`: 15 minutes). The slope of memory over tasks is that of
Theil and Sen, the median of all slopes between two samples, over the last two thirds of the time.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from tests.faults import size
from tests.faults.fleet import Fleet, children, open_files, rss_kib, threads

SOAK_S = float(os.environ.get("QCORE_SOAK") or size(20, 50))
#: a slope over fewer tasks is that of the first ones, which fill what is filled once
FEWEST = 50_000
AHEAD, BATCH = 4000, 500

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SOAK_S * 2 + 600)]


class Sample(NamedTuple):
    """One look at the worker."""

    tasks: int
    parent_kib: int
    child_kib: float  # the mean of the children
    files: int
    sockets: int
    threads: int


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median slope between two points."""
    every = max(len(points) // 300, 1)  # enough for the median, few enough to be quick
    pairs = itertools.combinations(points[::every], 2)
    return statistics.median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in pairs if x2 > x1)


def test_the_slope_is_that_of_most_points() -> None:
    points = [(float(x), 3.0 * x + (1000.0 if x % 10 == 3 else 0.0)) for x in range(100)]

    assert abs(slope(points) - 3.0) < 0.1


def test_a_worker_under_load_does_not_grow(fleet: Fleet) -> None:
    settings = {"result_expires": 5}
    worker = fleet.worker(lease_s=10, env={"FAULTS_SETTINGS": json.dumps(settings)}, fresh=True)
    pids = children(worker)
    samples: list[Sample] = []
    published = 0
    until = time.monotonic() + SOAK_S
    next_sample = 0.0

    while (now := time.monotonic()) < until or samples[-1].tasks < FEWEST:
        ready = fleet.depth().ready
        if ready < AHEAD:
            fleet.app.broker.publish([a_task(fleet, published + i) for i in range(BATCH)])
            published += BATCH
        else:
            time.sleep(0.01)
        if now >= next_sample:
            next_sample = now + max(SOAK_S / 200, 0.2)
            files, sockets = open_files(worker.pid)
            child_kib = statistics.fmean(rss_kib(pid) for pid in pids)
            done = published - ready
            samples.append(Sample(done, rss_kib(worker.pid), child_kib, files, sockets, threads(worker.pid)))

    steady = samples[len(samples) // 3 :]
    per = 100_000 / 1024  # KiB a task -> MiB for 100,000
    parent = slope([(s.tasks, s.parent_kib) for s in steady]) * per
    child = slope([(s.tasks, s.child_kib) for s in steady]) * per
    print(f"\n{samples[-1].tasks} tasks in {SOAK_S:.0f} s; {len(samples)} samples")
    print(f"{'':10}{'start':>10}{'third':>10}{'end':>10}   per 100,000 tasks")
    for field, per_task in (("parent_kib", parent), ("child_kib", child)):
        print(f"{field:10}{_row(field, samples, steady)}   {per_task:+.3f} MiB")
    for field in ("files", "sockets", "threads"):
        print(f"{field:10}{_row(field, samples, steady)}")
    assert children(worker) == pids, "children were replaced"
    assert parent <= 1.0
    assert child <= 0.5
    for field in ("files", "sockets", "threads"):
        values = [getattr(s, field) for s in steady]
        assert statistics.median(values[-5:]) <= statistics.median(values[:5]) + 1, field
    assert worker.is_running


def a_task(fleet: Fleet, number: int) -> Any:
    """Mostly quick ones; some keep their result, some fail, some are for later."""
    ident = f"s{number}"
    if number % 50 == 0:
        return fleet.message("faults.add", (number, "x"), ident)
    if number % 25 == 0:
        return fleet.message("faults.add", (number, 1), ident, countdown=0.5)
    return fleet.message("faults.add", (number, 1), ident, ignore_result=number % 2 == 0)


def _row(field: str, samples: Sequence[Sample], steady: Sequence[Sample]) -> str:
    values = (getattr(s, field) for s in (samples[0], steady[0], samples[-1]))
    return "".join(f"{value:>10.0f}" for value in values)
