"""An idle worker: memory of all its processes (PSS), and what CPU it takes for doing nothing."""

from __future__ import annotations

import time

from benchmarks import machine
from benchmarks.arena import Arena
from benchmarks.figures.drain import WARM
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes

SECONDS = 14.0
ROUNDS_OF_PEERS = 1


def takes(side: Side) -> bool:
    return not side.figures or "idle" in side.figures


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """MiB, and per cent of one core; the worker has run tasks before. Raises Invalid."""
    arena.empty()
    with arena.workers(side, BENCH_FIGURE="idle") as fleet:
        arena.ask(side, "warm", WARM, "on", BENCH_FIGURE="idle")
        fleet.settle()
        pids = fleet.pids()
        before = machine.cpu_s(pids)
        time.sleep(sizes.idle_s)  # the length of the measurement
        burnt = machine.cpu_s(pids) - before
        return {"pss": machine.pss_mib(pids), "idle_cpu": 100 * burnt / sizes.idle_s}
