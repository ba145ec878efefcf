"""Countdowns of an hour: by how much they make a worker's processes grow."""

from __future__ import annotations

from benchmarks import machine
from benchmarks.arena import Arena, Invalid
from benchmarks.figures.drain import WARM
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes

SECONDS = 20.0
ROUNDS = 1


def takes(side: Side) -> bool:
    return side.is_both


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """MiB of PSS more than before. Raises Invalid."""
    arena.empty()
    with arena.workers(side, BENCH_FIGURE="held") as fleet:
        arena.ask(side, "warm", WARM, "on", BENCH_FIGURE="held")
        fleet.settle()
        before = machine.pss_mib(fleet.pids())
        held = arena.ask(side, "hold", sizes.held, BENCH_FIGURE="held")["held"]
        if held < sizes.held:
            raise Invalid(f"{side.name} holds {held} of {sizes.held} countdowns")
        fleet.settle()
        return {"held": machine.pss_mib(fleet.pids()) - before}
