"""A worker whose wall clock jumps while tasks run: durations and limits are measured, not read off it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qcore import App
from qcore.errors import TimeLimitExceeded
from tests.qcore.worker.test_worker import active, lines
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_for

HOUR = 3600


class Clock:
    """The wall clock of a worker."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shift(0)

    def shift(self, seconds: float) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(str(seconds))
        os.replace(fresh, self.path)

    def worker(self, processes: Processes, url: str, *args: str) -> Process:
        return processes.start_qcore_worker(
            url, *args, app="tests.projects.shifted", env={"QCORE_TEST_CLOCK": str(self.path)}
        )


@pytest.mark.parametrize("hours", [1, -1])
@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
def test_a_clock_that_jumps_kills_nothing_and_stops_no_limit(
    hours: int, pool: str, redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    clock, log = Clock(tmp_path / "clock"), tmp_path / "log"
    app = App("clock", broker=redis_url, set_as_current=False)
    worker = clock.worker(processes, redis_url, "-c", "2", "-P", pool)
    spared = app.send_task("proj.log_start", (str(log), "spared", 2.0), time_limit=60)
    wait_for(lambda: lines(log))
    began = [task["time_start"] for task in active(app)]

    clock.shift(hours * HOUR)
    next_one = app.send_task("proj.log_start", (str(log), "next", 0.0), time_limit=60)
    assert next_one.get(timeout=10) == "next"
    caught = app.send_task("proj.nap", (30,), time_limit=0.5)
    with pytest.raises(TimeLimitExceeded):
        caught.get(timeout=10)
    assert spared.get(timeout=10) == "spared"

    heads = [line.split()[:2] for line in lines(log) if not line.startswith("done")]
    assert heads == [["spared", "False"], ["next", "False"]]
    assert worker.is_running
    assert len(began) == 1 and began[0] > 1_600_000_000
    app.close()


def test_a_clock_that_jumps_back_stops_no_rate_limited_task(
    redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    clock = Clock(tmp_path / "clock")
    app = App("rated", broker=redis_url, set_as_current=False)
    clock.worker(processes, redis_url, "-c", "1")
    app.control.rate_limit("proj.add", "20/s")
    assert app.send_task("proj.add", (1, 1)).get(timeout=10) == 2

    clock.shift(-HOUR)

    assert app.send_task("proj.add", (1, 2)).get(timeout=10) == 3
    app.close()


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_jumps_ends_no_lease_in_a_file(
    hours: int, sqlite_url: str, processes: Processes, tmp_path: Path
) -> None:
    clock, log = Clock(tmp_path / "clock"), tmp_path / "log"
    app = App("clock", broker=sqlite_url, set_as_current=False)
    clock.worker(processes, sqlite_url, "-c", "1")
    processes.start_qcore_worker(sqlite_url, "-c", "1")
    sent = [app.send_task("proj.log_start", (str(log), name, 4.0)) for name in ("a", "b")]
    wait_for(lambda: len(lines(log)) == 2)

    clock.shift(hours * HOUR)
    for result in sent:
        result.get(timeout=20)

    heads = [line.split()[:2] for line in lines(log) if not line.startswith("done")]
    assert sorted(heads) == [["a", "False"], ["b", "False"]]
    app.close()
