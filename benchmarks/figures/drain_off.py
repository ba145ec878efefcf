"""Working off a full queue, no results: until nothing is queued or in flight."""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.figures import drain
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes

SECONDS = 5.5


def takes(side: Side) -> bool:
    return not side.figures or "drain_off" in side.figures


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    found = drain.once(arena, side, arena.tasks(side, sizes.tasks), "off", BENCH_FIGURE="drain_off")
    return {"drain_off": found["rate"], "cpu_off": found["parent"] + found["children"]}
