"""The threads pool: tasks run in threads of the worker process.

For tasks that wait more than they compute. Any thread can take a waiting job, so none waits
behind a slow one. Threads cannot be killed: hard time limits and terminate are not supported.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from qcore.execution.run import RunContext, run
from qcore.execution.soft_limits import thread_limit
from qcore.pools.base import PoolFeatures, PoolSetup, Running
from qcore.pools.in_process import InProcessPool
from qcore.pools.stacks import Stack, Thread, in_order, system_ids, watch_threads
from qcore.wire.outcome import Job


class ThreadPool(InProcessPool):
    """Run tasks in threads of the worker process."""

    name: ClassVar[str] = "threads"
    features: ClassVar[PoolFeatures] = PoolFeatures(grow=True, soft_limit=True)

    def __init__(self, setup: PoolSetup) -> None:
        super().__init__(setup)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._current: dict[int, Running] = {}
        self._threads: list[threading.Thread] = []
        self._tools = RunContext(setup.app, setup.node, setup.accept, thread_limit, setup.extended)

    def start(self) -> None:
        if self.setup.before_run is not None:
            self.setup.before_run()
        for _ in range(self._size):
            self._add_thread()

    def _add_thread(self) -> None:
        thread = threading.Thread(
            target=self._serve, name=f"ThreadPoolWorker-{len(self._threads) + 1}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        me = threading.get_ident()
        while (job := self._jobs.get()) is not None:
            self._current[me] = Running(job.number, time.monotonic(), os.getpid())
            outcome = run(job, self._tools)
            self._current.pop(me, None)
            self._done.append(outcome)
            self._pipe.ring()

    def room(self) -> int:
        if self._is_slow():
            return max(self._size - self._held, 0)
        return max(self._size * self.pace.depth - self._held, 0)

    def _is_slow(self) -> bool:
        return self.pace.depth == 1

    def give(self, jobs: Sequence[Job]) -> None:
        self._held += len(jobs)
        for job in jobs:
            self._jobs.put(job)

    def tick(self) -> list[int]:
        """When every thread is stuck in a long task, return the waiting jobs to the broker."""
        if self._held <= self._size:
            return []
        now = time.monotonic()
        stuck = sum(now - r.since > 0.1 for r in self.running())
        return self.withdraw() if stuck >= self._size else []

    def tick_s(self) -> float:
        return 0.1 if self._held > self._size else 1.0

    def withdraw(self) -> list[int]:
        numbers = []
        ends = 0
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                ends += 1
            else:
                numbers.append(job.number)
        for _ in range(ends):
            self._jobs.put(None)
        self._held -= len(numbers)
        return numbers

    def stacks(self, numbers: Sequence[int], soon: Callable[[Callable[[], None]], None]) -> list[Stack]:
        ids = system_ids()
        wanted = {
            running.number: Thread(ident, ids.get(ident, 0))
            for ident, running in list(self._current.items())
            if running.number in numbers
        }
        return in_order(numbers, watch_threads(wanted))

    def running(self) -> list[Running]:
        return list(self._current.values())

    @property
    def size(self) -> int:
        return self._size

    def grow(self, n: int) -> None:
        for _ in range(n):
            self._size += 1
            self._add_thread()

    def shrink(self, n: int) -> None:
        if n > self._size:
            raise ValueError(f"the pool has {self._size} threads")
        self._size -= n
        for _ in range(n):
            self._jobs.put(None)

    def info(self) -> dict[str, Any]:
        return {**super().info(), "threads": self._size}

    def stop(self) -> None:
        self.withdraw()
        for _ in self._threads:
            self._jobs.put(None)
