"""The round trip: publish one task and wait for its result, each after the one before, idle worker."""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes

SECONDS = 5.0


def takes(side: Side) -> bool:
    return not side.figures or "roundtrip" in side.figures


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Median and 99th percentile in milliseconds. Raises Invalid."""
    arena.empty()
    with arena.workers(side, BENCH_FIGURE="roundtrip"):
        found = arena.ask(side, "trips", sizes.trips, sizes.trips_s, BENCH_FIGURE="roundtrip")
    return {"p50": found["p50"], "p99": found["p99"]}
