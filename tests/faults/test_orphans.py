"""The worker's process killed alone: what it started ends with it, whatever it is doing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults import size
from tests.faults.fleet import Fleet, children, parent_of
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def lives(pid: int) -> bool:
    """Whether it can still do anything; a zombie that nobody has fetched cannot."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_no_process_outlives_its_worker(fleet: Fleet) -> None:
    slowest = 0.0

    for number in range(size(4, 50)):
        worker = fleet.worker("-c", "3", lease_s=30)
        pids = wait_for(lambda worker=worker: found if len(found := children(worker)) == 3 else None)
        if number % 2:
            # One that ignores every signal it may, one that sleeps, one that is idle.
            fleet.app.send_task("faults.spin", (True,))
            fleet.publish({f"t{number}": fleet.work(f"t{number}", 100.0)})
            wait_for(lambda n=number: f"t{n}" in fleet.history.tasks)
        family = [*pids, parent_of(pids[0])]
        assert all(map(lives, family))

        worker.kill9(group=False)
        began = time.monotonic()
        wait_for(lambda family=family: not any(map(lives, family)), 30.0, "no orphan is left")
        slowest = max(slowest, time.monotonic() - began)

        # What it held is in flight for 30 s: the next worker's slots stay free for its own.
    print(f"the last of each family was gone after at most {slowest * 1000:.0f} ms")
