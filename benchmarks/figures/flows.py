"""Workflows: a group and a chord of a thousand tasks, a chain of a hundred."""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.figures.drain import WARM
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes

SECONDS = 8.0


def takes(side: Side) -> bool:
    return side.is_both


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Milliseconds from the call to the last result. Raises Invalid when an answer is wrong."""
    arena.empty()
    with arena.workers(side, BENCH_FIGURE="flows"):
        arena.ask(side, "warm", WARM, "on", BENCH_FIGURE="flows")
        return arena.ask(side, "workflows", sizes.members, sizes.links, BENCH_FIGURE="flows")
