"""Working off a full queue: from the go until the last task is done. With results, without, with events.

The worker has run tasks before; then it is stopped (SIGSTOP, all of its processes) while the queue is
filled, so that it starts from a full queue at the very moment of the go, as everybody does. Done means
with results that each of them is there, counted; without, that nothing is queued or in flight.
"""

from __future__ import annotations

import time

from benchmarks import machine
from benchmarks.arena import Arena, Fleet, Talk
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes

SECONDS = 5.5
WARM = 200


def takes(side: Side) -> bool:
    return not side.figures or "drain" in side.figures


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Results stored: tasks a second, and CPU microseconds a task by process. Raises Invalid."""
    found = once(arena, side, arena.tasks(side, sizes.tasks), "on", BENCH_FIGURE="drain")
    return {"drain": found.pop("rate"), **{f"cpu_{who}": us for who, us in found.items()}}


def once(arena: Arena, side: Side, n: int, results: str, **env: str) -> dict[str, float]:
    """One drain of n tasks: `rate` and, as `parent`, `children`, `redis`, microseconds a task."""
    arena.empty()
    env = {"BENCH_RESULTS": results, **env}
    with arena.workers(side, **env) as fleet:
        before = int(arena.ask(side, "warm", WARM, results, **env)["kept"])
        fleet.pause()
        return timed(arena, fleet, arena.talk(side, "drain", n, results, before, **env), n)


def timed(arena: Arena, fleet: Fleet, talk: Talk, n: int) -> dict[str, float]:
    """Let a stopped fleet work off what the client has queued."""
    try:
        talk.hear()
        begin = time.monotonic()
        burnt = _burnt(arena, fleet)
        fleet.resume()
        talk.go()
        took = talk.hear()["ended"] - begin
        spent = {who: (s - burnt[who]) / n * 1e6 for who, s in _burnt(arena, fleet).items()}
    finally:
        talk.end()
    return {"rate": n / took, **spent}


def _burnt(arena: Arena, fleet: Fleet) -> dict[str, float]:
    server = arena.redis.process
    return {
        "parent": machine.cpu_s(fleet.parents),
        "children": machine.cpu_s(fleet.children()),
        "redis": machine.cpu_s([server.pid] if server is not None else []),
    }
