"""The solo pool: tasks run one after the other in the worker's own loop.

For debugging, and for code that must run in the main thread. The loop does not run while a task
runs; leases, events and control have their own threads and continue.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

from qcore.execution.run import RunContext, run
from qcore.execution.soft_limits import alarm_limit
from qcore.pools.base import Pool, PoolFeatures, PoolSetup, Running
from qcore.pools.stacks import Stack, Thread, in_order, watch_threads
from qcore.wire.outcome import Job, Outcome


class SoloPool(Pool):
    """One slot: this thread."""

    name: ClassVar[str] = "solo"
    features: ClassVar[PoolFeatures] = PoolFeatures(soft_limit=True)

    def __init__(self, setup: PoolSetup) -> None:
        super().__init__(setup)
        self._waiting: deque[Job] = deque()
        self._current: Running | None = None
        self._thread: Thread | None = None
        self._tools = RunContext(setup.app, setup.node, setup.accept, alarm_limit, setup.extended)

    sends_process_signals: ClassVar[bool] = True

    def start(self) -> None:
        if self.setup.before_run is not None:
            self.setup.before_run()

    def room(self) -> int:
        return max(self.pace.depth - len(self._waiting), 0)

    def is_idle(self) -> bool:
        return not self._waiting

    def give(self, jobs: Sequence[Job]) -> None:
        self._waiting.extend(jobs)

    def wants_turn(self) -> bool:
        return bool(self._waiting)

    def collect(self) -> list[Outcome]:
        if not self._waiting:
            return []
        job = self._waiting.popleft()
        if self._thread is None:
            self._thread = Thread(threading.get_ident(), threading.get_native_id())
        self._current = Running(job.number, time.monotonic(), os.getpid())
        try:
            outcome = run(job, self._tools)
        finally:
            self._current = None
        self.pace.add_runtime(outcome.runtime_s)
        return [outcome]

    def tick(self) -> list[int]:
        # The last task was slow: jobs that wait behind the next one may run sooner at another worker.
        if self.pace.depth > 1 or len(self._waiting) < 2:
            return []
        extra = [self._waiting.pop().number for _ in range(len(self._waiting) - 1)]
        return extra[::-1]

    def withdraw(self) -> list[int]:
        numbers = [job.number for job in self._waiting]
        self._waiting.clear()
        return numbers

    def busy(self) -> int:
        return len(self._waiting) + (self._current is not None)

    def stacks(self, numbers: Sequence[int], soon: Callable[[Callable[[], None]], None]) -> list[Stack]:
        current, main = self._current, self._thread
        wanted = {current.number: main} if current is not None and main is not None else {}
        return in_order(numbers, watch_threads({n: t for n, t in wanted.items() if n in numbers}))

    def running(self) -> list[Running]:
        current = self._current
        return [current] if current is not None else []

    @property
    def size(self) -> int:
        return 1

    def stop(self) -> None:
        self._waiting.clear()
