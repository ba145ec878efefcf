"""How many messages this worker has taken, of each queue, and how fast lately.

In:  batches of deliveries, from the loop.  Out: counts and rates for the worker's announcement, which other
threads read. Whoever adds up the rates of all workers knows how fast a queue is emptied.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence

from qcore.brokers.contract.records import Delivery

#: a rate is the mean of so many seconds, and of the time since the announcement before them
SPAN_S = 10.0


class QueueThroughput:
    """Of one worker. add() belongs to the loop, told() to whoever announces."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._looks: deque[tuple[float, dict[str, int]]] = deque([(time.monotonic(), {})])

    def add(self, batch: Sequence[Delivery]) -> None:
        """These were taken. What goes back and is taken again counts twice, as it does for its queue."""
        first = batch[0].queue
        if len(batch) == 1:
            self._counts[first] += 1
        else:
            self._counts.update([delivery.queue for delivery in batch])

    def rates(self) -> dict[str, tuple[int, float]]:
        """For each queue how many since the start, and how many a second of late."""
        now, counts = time.monotonic(), dict(self._counts)
        while len(self._looks) > 1 and self._looks[1][0] <= now - SPAN_S:
            self._looks.popleft()
        since, before = self._looks[0]
        self._looks.append((now, counts))
        span_s = max(now - since, 0.001)
        return {q: (n, round((n - before.get(q, 0)) / span_s, 3)) for q, n in counts.items()}
