"""What a task costs with a million messages queued: the drain of the first 20,000, against 20,000 alone."""

from __future__ import annotations

from benchmarks.arena import Arena, Invalid
from benchmarks.figures import drain
from benchmarks.lineup import OURS, Side
from benchmarks.sizes import Sizes

SECONDS = 25.0


def takes(side: Side) -> bool:
    return side.name == OURS


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Tasks a second, both ways. Raises Invalid."""
    found = {}
    env = {"BENCH_FIGURE": "backlog"}
    for name, rest in (("shallow", 0), ("deep", sizes.backlog - sizes.first)):
        arena.empty()
        with arena.workers(side, **env) as fleet:
            arena.ask(side, "warm", drain.WARM, "on", **env)
            fleet.pause()
            talk = arena.talk(side, "backlog", sizes.first, rest, **env)
            found[name] = drain.timed(arena, fleet, talk, sizes.first)["rate"]
            with arena.redis.client() as client:
                left = client.llen("bench")
            if rest and not left:
                raise Invalid("the backlog was gone before the first tasks were done")
    arena.empty()
    return found
