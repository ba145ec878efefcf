"""Publishing many at once: App.send_many() of qcore, a group of Celery. A thousand a call."""

from __future__ import annotations

import time
from typing import Any

AT_ONCE = 1000


def measure(side: Any, n: int) -> dict[str, float]:
    """Calls a second."""
    side.send_all(10)
    sizes = [min(AT_ONCE, n - start) for start in range(0, n, AT_ONCE)]

    begin = time.perf_counter()
    for size in sizes:
        side.send_all(size)
    return {"bulk": n / (time.perf_counter() - begin)}
