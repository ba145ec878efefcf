"""The end of an idle worker: from SIGTERM until none of its processes is there."""

from __future__ import annotations

import os
import signal
import time

from benchmarks.arena import Arena, Invalid
from benchmarks.figures.drain import WARM
from benchmarks.lineup import Side
from benchmarks.machine import running
from benchmarks.sizes import Sizes

SECONDS = 4.0
ROUNDS_OF_PEERS = 1
GIVE_UP_S = 60.0


def takes(side: Side) -> bool:
    return not side.figures or "idle" in side.figures


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Seconds; the worker has run tasks before. Raises Invalid for one that does not end."""
    arena.empty()
    with arena.workers(side, BENCH_FIGURE="stop") as fleet:
        arena.ask(side, "warm", WARM, "on", BENCH_FIGURE="stop")
        pids = fleet.pids()
        begin = time.monotonic()
        for pid in fleet.parents:
            os.kill(pid, signal.SIGTERM)
        while running(pids):
            if time.monotonic() - begin > GIVE_UP_S:
                raise Invalid(f"{side.name}: the worker has not ended after {GIVE_UP_S:.0f} s")
            time.sleep(0.002)
        return {"stop": time.monotonic() - begin}
