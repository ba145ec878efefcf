"""What a task costs with 200 idle workers on its queue: the round trip, against four.

The workers are real consumers of qcore's Redis broker, armed and waiting, in four processes
(benchmarks/crowd.py); there is no other worker, so that each task wakes one of them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks import machine
from benchmarks.arena import Arena
from benchmarks.contestants import QUEUE
from benchmarks.lineup import OURS, Side
from benchmarks.sizes import Sizes
from tests.support.processes import Processes

SECONDS = 10.0
PROCESSES = 4


def takes(side: Side) -> bool:
    return side.name == OURS


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Median round trip in milliseconds and CPU of redis-server in microseconds a task, both ways."""
    found = {}
    for name, each in (("few", 1), ("crowd", sizes.crowd // PROCESSES)):
        arena.empty()
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
            processes = Processes(Path(folder))
            try:
                command = (sys.executable, "-m", "benchmarks.crowd", arena.redis.url, QUEUE, str(each))
                started = [processes.start(*command, name="crowd") for _ in range(PROCESSES)]
                for process in started:
                    process.wait_output("waiting", 30)
                found |= _trips(arena, side, sizes, name)
            finally:
                processes.close()
    return found


def _trips(arena: Arena, side: Side, sizes: Sizes, name: str) -> dict[str, float]:
    server = arena.redis.process
    assert server is not None
    before = machine.cpu_s([server.pid])
    said = arena.ask(side, "trips", sizes.trips, BENCH_FIGURE="crowd")
    burnt = machine.cpu_s([server.pid]) - before
    return {name: said["p50"], f"{name}_redis": burnt / said["n"] * 1e6}
