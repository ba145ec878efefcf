"""The round trip: delay().get(), each after the one before, on an idle worker."""

from __future__ import annotations

import statistics
import time
from typing import Any

WARM = 50


def measure(side: Any, n: int) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    for _ in range(WARM):  # the first one waits until the worker is ready
        side.noop.delay().get(timeout=60)

    took = []
    for _ in range(n):
        begin = time.perf_counter()
        side.noop.delay().get(timeout=30)
        took.append((time.perf_counter() - begin) * 1000)
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98]}
