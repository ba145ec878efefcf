"""Working off a full queue with task events on (-E), and nobody who listens to them."""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.figures import drain
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes

SECONDS = 24.0


def takes(side: Side) -> bool:
    return side.is_both


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Tasks a second with events, and without them in the same minute: a machine drifts by more than
    events cost."""
    n = arena.tasks(side, sizes.tasks)
    took = {"off": 0.0, "on": 0.0}
    for events in ("off", "on", "on", "off"):
        found = drain.once(arena, side, n, "on", BENCH_FIGURE="drain_events", BENCH_EVENTS=events)
        took[events] += n / found["rate"]
    return {"drain_events": 2 * n / took["on"], "drain_events_off": 2 * n / took["off"]}
