"""Working off a full queue with task events on (-E), and nobody who listens to them."""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.figures import drain
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes

SECONDS = 8.0


def takes(side: Side) -> bool:
    return side.is_both


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    n = arena.tasks(side, sizes.tasks)
    found = drain.once(arena, side, n, "on", BENCH_FIGURE="drain_events", BENCH_EVENTS="on")
    return {"drain_events": found["rate"]}
