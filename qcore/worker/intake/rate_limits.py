"""Rate limits: how often a task may start on this worker. Token buckets, pure arithmetic.

In:  a number of starts per second (base/times.py reads '100/m').  Out: seconds until the next start.
"""

from __future__ import annotations

#: reserved start times that are kept for delayed tasks; beyond that the oldest is dropped
PLACES_MOST = 10_000


class TokenBucket:
    """The starts of one task, spread evenly: each call reserves the next free start time.

    A message that must wait is delayed in the broker until its start time, which stays reserved.
    """

    __slots__ = ("_next", "_places", "_step")

    def __init__(self, rate: float) -> None:
        self._step, self._next = 1.0 / rate, 0.0
        self._places: dict[str, float] = {}

    def reserve(self, task_id: str, now: float) -> float:
        """In how many seconds this task may start (0: now). `now` is monotonic seconds."""
        at = self._places.pop(task_id, None)
        if at is None:
            at = max(self._next, now)
            self._next = at + self._step
        if at <= now:
            return 0.0
        self._places[task_id] = at
        if len(self._places) > PLACES_MOST:
            del self._places[next(iter(self._places))]
        return at - now
