"""Publishing many at once, a thousand a call, by those who have a call for that.

Celery's is a group; arq, repid, saq and taskiq have asyncio.gather of 100 calls. qcore has a call for
signatures and one for the argument tuples of one task: both are measured, and the first is compared.
"""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.contestants import WAITING
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes

SECONDS = 1.5


def takes(side: Side) -> bool:
    return not side.figures or "bulk" in side.figures


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Calls a second, and CPU of the client; nothing of those who have no such call. Raises Invalid."""
    n = arena.tasks(side, sizes.tasks)
    rates: dict[str, float] = {}
    for kind in ("bulk", "tuples"):
        if arena.describe(side)[kind]:
            arena.empty()
            found = arena.ask(side, kind, n, BENCH_QUEUE=WAITING, BENCH_FIGURE="bulk")
            rates |= {kind: found["rate"], f"cpu_{kind}": found["cpu_us"]}
    return rates
