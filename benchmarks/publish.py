"""Publishing, one call at a time: apply_async() in a loop, from one thread."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.contestants import WAITING

WARM = 100


def measure(side: Any, n: int) -> dict[str, float]:
    """Calls a second."""
    send = side.noop.apply_async
    for _ in range(WARM):
        send(queue=WAITING)

    begin = time.perf_counter()
    for _ in range(n):
        send(queue=WAITING)
    return {"publish": n / (time.perf_counter() - begin)}
