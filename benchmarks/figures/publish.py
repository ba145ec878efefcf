"""Publishing, one call at a time: a loop in one thread, to a queue that nobody consumes."""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.contestants import WAITING
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes

SECONDS = 2.0


def takes(side: Side) -> bool:
    return not side.figures or "publish" in side.figures


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Calls a second, and CPU of the client. Raises Invalid."""
    arena.empty()
    n = arena.tasks(side, sizes.tasks)
    found = arena.ask(side, "publish", n, BENCH_QUEUE=WAITING, BENCH_FIGURE="publish")
    return {"publish": found["rate"], "cpu_publish": found["cpu_us"]}
