"""The common part of pools whose tasks run in the worker's own process, beside its loop.

In:  outcomes, from other threads.  Out: collected ones, in the worker's thread.
"""

from __future__ import annotations

from collections import deque

from qcore.base.wakeup import WakePipe
from qcore.pools.base import Pool, PoolSetup
from qcore.wire.outcome import Job, Outcome


class InProcessPool(Pool):
    """A pool whose threads append each outcome to `_done` and ring `_pipe`."""

    def __init__(self, setup: PoolSetup) -> None:
        super().__init__(setup)
        self._size = setup.concurrency
        self._held = 0  # jobs given, less those returned; changed only in the worker's thread
        self._waiting: deque[Job] = deque()  # given and not started, in pools that start them from elsewhere
        self._done: deque[Outcome] = deque()
        self._pipe = WakePipe()

    def is_idle(self) -> bool:
        return self._held < self._size

    def busy(self) -> int:
        return self._held

    def fds(self) -> list[int]:
        return [self._pipe.fileno()]

    def ready(self, fd: int) -> None:
        self._pipe.drain_pipe()

    def collect(self) -> list[Outcome]:
        found: list[Outcome] = []
        while self._done:
            outcome = self._done.popleft()
            self.pace.add_runtime(outcome.runtime_s)
            found.append(outcome)
        self._held -= len(found)
        return found

    def withdraw(self) -> list[int]:
        numbers = []
        while True:
            try:
                numbers.append(self._waiting.popleft().number)
            except IndexError:
                self._held -= len(numbers)
                return numbers

    def release(self) -> None:
        self._pipe.close()
