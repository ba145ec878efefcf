"""The gevent pool: tasks run in greenlets, hundreds at once, for code that waits on sockets.

The greenlets have their own thread and hub, so that a task that computes delays other tasks
but neither the worker's loop nor its lease. `qctl worker -P gevent` patches the standard library before
the app is imported (patch.py); from Python the caller does it.
"""

from __future__ import annotations

import _thread
import importlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from qcore.base.times import epoch_of
from qcore.errors import ConfigError, SoftTimeLimitExceeded
from qcore.execution.run import Run, RunContext
from qcore.execution.run_signals import traced
from qcore.pools.base import PoolFeatures, PoolSetup, Running
from qcore.pools.gevent import patch
from qcore.pools.in_process import InProcessPool
from qcore.pools.stacks import SWITCHED, Stack, Thread, frames, in_order, of_thread, watch_threads
from qcore.tasks.joins import waiting_blocks
from qcore.wire.outcome import End, Job, Outcome

STOP_S = 2.0


class RunningGreenlet:
    """One running job."""

    __slots__ = ("end", "greenlet", "job", "over", "since")

    def __init__(self, job: Job) -> None:
        self.job, self.since = job, time.monotonic()
        self.greenlet: Any = None
        self.end: End | None = None
        self.over = False


@contextmanager
def greenlet_limit(seconds: float) -> Iterator[None]:
    """The soft limit: raises where the greenlet waits."""
    gevent: Any = importlib.import_module("gevent")
    with gevent.Timeout(seconds, SoftTimeLimitExceeded()):
        yield


class GeventPool(InProcessPool):
    """Run tasks in greenlets of one thread."""

    name: ClassVar[str] = "gevent"
    features: ClassVar[PoolFeatures] = PoolFeatures(
        grow=True, terminate=True, soft_limit=True, hard_limit=True
    )
    default_concurrency: ClassVar[int | None] = 100
    most: ClassVar[int] = 10_000

    def __init__(self, setup: PoolSetup) -> None:
        super().__init__(setup)
        if not patch.is_patched():
            raise ConfigError(
                "the gevent pool needs a patched standard library: start it with `qctl worker -P gevent`, or "
                "call gevent.monkey.patch_all() before anything else is imported"
            )
        self._waiting: deque[Job] = deque()
        self._flights: dict[int, RunningGreenlet] = {}
        killed: Any = importlib.import_module("gevent").GreenletExit
        self._tools = RunContext(
            setup.app, setup.node, setup.accept, greenlet_limit, setup.extended, passes=(killed,)
        )
        self._stopping = False

    def start(self) -> None:
        if self.setup.before_run is not None:
            self.setup.before_run()
        monkey: Any = importlib.import_module("gevent.monkey")
        self._hub: Any = None
        self._ident = monkey.get_original("_thread", "get_ident")
        ready_r, ready_w = os.pipe()
        # A system thread: `threading` creates greenlets now.
        monkey.get_original("_thread", "start_new_thread")(self._serve, (ready_w,))
        os.read(ready_r, 1)
        os.close(ready_r)

    # --- in the greenlets' thread

    def _serve(self, ready: int) -> None:
        self._thread = Thread(self._ident(), _thread.get_native_id())
        waiting_blocks(False)  # a greenlet that waits lets the others run
        gevent: Any = importlib.import_module("gevent")
        self._hub = gevent.get_hub()
        self._spawn = gevent.spawn
        os.write(ready, b"x")
        os.close(ready)
        while not self._stopping:
            gevent.sleep(0.5)  # keeps the hub running; callbacks run in between

    def _soon(self, what: Callable[[], None]) -> None:
        """Call `what` in the hub of the greenlets' thread, from any thread."""
        self._hub.loop.run_callback_threadsafe(what)

    def _start_more(self) -> None:
        while self._waiting and len(self._flights) < self._size:
            try:
                job = self._waiting.popleft()
            except IndexError:
                return  # withdrawn at this moment
            flight = self._flights[job.number] = RunningGreenlet(job)
            flight.greenlet = self._spawn(self._run_coroutine, flight)
            # A greenlet killed before its first step runs no code that could report its end.
            flight.greenlet.rawlink(lambda _, flight=flight: self._gone(flight))

    def _run_coroutine(self, flight: RunningGreenlet) -> None:
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

    def withdraw(self) -> list[int]:
        numbers = []
        while True:
            try:
                numbers.append(self._waiting.popleft().number)
            except IndexError:
                self._held -= len(numbers)
                return numbers

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
        self._soon(partial(flight.greenlet.kill, block=False))
        return True

    @property
    def size(self) -> int:
        return self._size

    def grow(self, n: int) -> None:
        self._size += n
        self._soon(self._start_more)

    def shrink(self, n: int) -> None:
        if n >= self._size:
            raise ValueError(f"the pool has {self._size} slots; at least one must stay")
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
                self._soon(partial(flight.greenlet.kill, block=False))
        until = time.monotonic() + STOP_S
        while self._flights and time.monotonic() < until:
            time.sleep(0.01)
