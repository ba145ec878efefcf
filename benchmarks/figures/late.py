"""A thousand countdowns spread over two seconds: by how much each starts late."""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.figures.drain import WARM
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes

SECONDS = 6.0
SPREAD_S = 2.0


def takes(side: Side) -> bool:
    return side.is_both


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Milliseconds. Raises Invalid, also when a task ran early."""
    arena.empty()
    with arena.workers(side, BENCH_FIGURE="late"):
        arena.ask(side, "warm", WARM, "on", BENCH_FIGURE="late")
        found = arena.ask(side, "lateness", sizes.later, SPREAD_S, BENCH_FIGURE="late")
    return {f"late_{name}": value for name, value in found.items()}
