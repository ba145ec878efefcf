"""Publishing many at once, a thousand a call, by those who have a call for that.

Celery's is a group; arq, saq and taskiq have asyncio.gather of 100 calls.
"""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.contestants import WAITING
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes

SECONDS = 1.5


def takes(side: Side) -> bool:
    return not side.figures


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Calls a second, and CPU of the client; nothing of those who have no such call. Raises Invalid."""
    arena.empty()
    if not arena.describe(side)["bulk"]:
        return {}
    n = arena.tasks(side, sizes.tasks)
    found = arena.ask(side, "bulk", n, BENCH_QUEUE=WAITING, BENCH_FIGURE="bulk")
    return {"bulk": found["rate"], "cpu_bulk": found["cpu_us"]}
