"""What the pools of greenlets have in common: hundreds of tasks at once, for code that waits on sockets.

In:  jobs, each of which runs in a greenlet of its own.  Out: their outcomes.
gevent/pool.py and eventlet/pool.py say in which thread the greenlets run, and begin and kill them.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar

from qcore.base import provided
from qcore.base.times import epoch_of
from qcore.execution.run import Run, RunContext
from qcore.execution.run_signals import traced
from qcore.pools.base import PoolFeatures, PoolSetup, Running
from qcore.pools.in_process import InProcessPool
from qcore.pools.stacks import SWITCHED, Stack, Thread, frames, in_order, of_thread, watch_threads
from qcore.wire.outcome import End, Job, Outcome

STOP_S = 2.0


def event_loop() -> Any:
    """An event loop beside which other greenlets of its thread run loops of their own while it waits."""
    import asyncio  # only if a task is a coroutine function
    import selectors

    kind: Any = selectors.DefaultSelector

    class Waiting(kind):  # type: ignore[misc]
        def select(self, timeout: float | None = None) -> Any:
            running = asyncio._get_running_loop()
            asyncio._set_running_loop(None)
            try:
                return super().select(timeout)
            finally:
                asyncio._set_running_loop(running)

    return asyncio.SelectorEventLoop(Waiting())


class RunningGreenlet:
    """One running job."""

    __slots__ = ("end", "greenlet", "job", "over", "since")

    def __init__(self, job: Job) -> None:
        self.job, self.since = job, time.monotonic()
        self.greenlet: Any = None
        self.end: End | None = None
        self.over = False


class GreenPool(InProcessPool):
    """Run tasks in greenlets of one thread."""

    features: ClassVar[PoolFeatures] = PoolFeatures(
        grow=True, terminate=True, soft_limit=True, hard_limit=True
    )
    default_concurrency: ClassVar[int | None] = 100
    most: ClassVar[int] = 10_000
    #: the thread of the greenlets; set by start()
    _thread: Thread

    def __init__(
        self,
        setup: PoolSetup,
        limit: Callable[[float], AbstractContextManager[None]],
        killed: type[BaseException],
    ) -> None:
        """limit: the soft limit, which raises where a greenlet waits; killed: what a killed one raises."""
        super().__init__(setup)
        self._flights: dict[int, RunningGreenlet] = {}
        self._tools = RunContext(setup.app, setup.node, setup.accept, limit, setup.extended, passes=(killed,))
        self._stopping = False
        provided["event_loop"] = event_loop

    # --- in the greenlets' thread

    @abstractmethod
    def _soon(self, what: Callable[[], None]) -> None:
        """Call `what` in the greenlets' thread, from any thread."""

    @abstractmethod
    def _spawn(self, flight: RunningGreenlet) -> Any:
        """Begin a greenlet that calls _run(flight), and _gone(flight) however it ends. A greenlet that is
        killed before its first step runs no code that could report its end."""

    @abstractmethod
    def _kill(self, greenlet: Any) -> None:
        """Raise in a greenlet."""

    def _start_more(self) -> None:
        while self._waiting and len(self._flights) < self._size:
            try:
                job = self._waiting.popleft()
            except IndexError:
                return  # withdrawn at this moment
            flight = self._flights[job.number] = RunningGreenlet(job)
            flight.greenlet = self._spawn(flight)
            if flight.end is not None:  # killed while it was begun
                self._kill(flight.greenlet)

    def _run(self, flight: RunningGreenlet) -> None:
        run = Run(flight.job, self._tools)
        try:
            outcome = run.outcome if run.request is None else traced(run)
        except BaseException as exc:  # killed, at any point
            outcome = run.outcome
            outcome.end, outcome.text = End.FAILURE, repr(exc)
        if flight.end is not None:
            outcome.end, outcome.meta, outcome.sends, outcome.before = flight.end, None, [], None
        self._ended(flight, outcome)

    def _gone(self, flight: RunningGreenlet) -> None:
        if not flight.over:
            end = flight.end or End.LOST
            self._ended(flight, Outcome(flight.job.number, end, epoch_of(flight.since), 0.0, os.getpid()))

    def _ended(self, flight: RunningGreenlet, outcome: Outcome) -> None:
        """Report an outcome, once."""
        self._flights.pop(flight.job.number, None)
        if not flight.over:
            flight.over = True
            self._done.append(outcome)
            self._pipe.ring()
        self._start_more()

    # --- in the worker's thread

    def room(self) -> int:
        return max(self._size + self.pace.depth - 1 - self._held, 0)

    def give(self, jobs: Sequence[Job]) -> None:
        self._held += len(jobs)
        self._waiting.extend(jobs)
        self._soon(self._start_more)

    def tick(self) -> list[int]:
        """When every slot is stuck, what waits goes back for others."""
        now = time.monotonic()
        if self._waiting and sum(now - f.since > 0.1 for f in list(self._flights.values())) >= self._size:
            return self.withdraw()
        return []

    def tick_s(self) -> float:
        return 0.1 if self._waiting else 1.0

    def stacks(self, numbers: Sequence[int], soon: Callable[[Callable[[], None]], None]) -> list[Stack]:
        found: dict[int, Stack] = {}
        threads: dict[int, Thread] = {}
        for number in numbers:
            flight = self._flights.get(number)
            greenlet = flight.greenlet if flight is not None else None
            if not greenlet:  # gone, or it has not begun
                continue
            where = of_thread(greenlet.gr_frame)
            if where:
                found[number] = Stack(number, SWITCHED, frames(where))
            else:  # it has the thread
                threads[number] = self._thread
        return in_order(numbers, {**found, **watch_threads(threads)})

    def running(self) -> list[Running]:
        pid = os.getpid()
        return [Running(f.job.number, f.since, pid) for f in list(self._flights.values())]

    def kill(self, number: int, end: End, signum: int) -> bool:
        flight = self._flights.get(number)
        if flight is None or flight.over:
            return False
        flight.end = end
        if flight.greenlet is not None:
            self._soon(partial(self._kill, flight.greenlet))
        return True

    @property
    def size(self) -> int:
        return self._size

    def grow(self, n: int) -> None:
        self._size += n
        self._soon(self._start_more)

    def shrink(self, n: int) -> None:
        if n > self._size:
            raise ValueError(f"the pool has {self._size} slots")
        self._size -= n

    def info(self) -> dict[str, Any]:
        return {**super().info(), "in-flight": len(self._flights)}

    def stop(self) -> None:
        """Kill running tasks; their outcomes are dropped."""
        if self._stopping:
            return
        self.withdraw()
        self._stopping = True
        for flight in list(self._flights.values()):
            flight.over = True
            if flight.greenlet is not None:
                self._soon(partial(self._kill, flight.greenlet))
        until = time.monotonic() + STOP_S
        while self._flights and time.monotonic() < until:
            time.sleep(0.01)
