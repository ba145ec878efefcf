"""Calls at fixed times, at half and at four fifths of what is possible: how late their tasks start."""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.figures.drain import WARM
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes

SECONDS = 12.0


def takes(side: Side) -> bool:
    return side.is_both


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Calls a second, and milliseconds. Raises Invalid."""
    arena.empty()
    n = arena.tasks(side, sizes.tasks) // 4
    with arena.workers(side, BENCH_FIGURE="open_loop"):
        arena.ask(side, "warm", WARM, "on", BENCH_FIGURE="open_loop")
        found = arena.ask(side, "arrivals", n, sizes.paced_s, BENCH_FIGURE="open_loop")
    return {f"open_{name}": value for name, value in found.items()}
