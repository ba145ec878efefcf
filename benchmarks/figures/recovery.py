"""A worker is killed with all its processes (SIGKILL): until what it ran has started on another one.

The other one, on the same host, is idle: it starts only when the first has its work.
"""

from __future__ import annotations

import os
import signal
import time

from benchmarks.arena import Arena, Invalid
from benchmarks.figures.drain import WARM
from benchmarks.lineup import OURS, Side
from benchmarks.sizes import Sizes

SECONDS = 9.0
SLOTS = 2


def takes(side: Side) -> bool:
    return side.name == OURS


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Seconds. Raises Invalid."""
    arena.empty()
    env = {"BENCH_FIGURE": "recovery"}
    with arena.workers(side, SLOTS, **env) as first:
        arena.ask(side, "warm", WARM, "on", **env)
        talk = arena.talk(side, "again", SLOTS, **env)
        try:
            talk.hear()
            with arena.workers(side, SLOTS, BENCH_NODE="two@bench", **env) as second:
                second.settle()
                for pid in first.pids():
                    os.kill(pid, signal.SIGKILL)
                killed = time.time()
                talk.go()
                took = float(talk.hear()["started"]) - killed
        finally:
            talk.end()
    if took < 0:
        raise Invalid(f"{side.name}: the tasks had ended before the worker was killed")
    return {"recovery": took}
