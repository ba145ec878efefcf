"""Throughput: how many messages this worker has claimed from each queue, and how many per second.

In:  batches of deliveries, from the loop.  Out: counts and rates for the worker's announcement. The sum of
the rates of all workers is the departure rate of a queue.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence

from qcore.brokers.contract.records import Delivery

#: a rate is the mean since the last announcement that is at least so many seconds old
SPAN_S = 10.0


class QueueThroughput:
    """The throughput of one worker. The loop's thread calls add(), the announcing thread calls rates()."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._looks: deque[tuple[float, dict[str, int]]] = deque([(time.monotonic(), {})])

    def add(self, batch: Sequence[Delivery]) -> None:
        """Count claimed deliveries. A message that is returned and claimed again counts twice, as it does in
        the arrival rate of its queue."""
        first = batch[0].queue
        if len(batch) == 1:
            self._counts[first] += 1
        else:
            self._counts.update([delivery.queue for delivery in batch])

    def rates(self) -> dict[str, tuple[int, float]]:
        """For each queue: messages since the start of the worker, and messages per second lately."""
        now, counts = time.monotonic(), dict(self._counts)
        while len(self._looks) > 1 and self._looks[1][0] <= now - SPAN_S:
            self._looks.popleft()
        since, before = self._looks[0]
        self._looks.append((now, counts))
        span_s = max(now - since, 0.001)
        return {q: (n, round((n - before.get(q, 0)) / span_s, 3)) for q, n in counts.items()}
