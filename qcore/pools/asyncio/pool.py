"""The asyncio pool: coroutine tasks, hundreds in flight in one event loop.

The loop has its own thread, so that no task delays the worker's requests to the broker. A task
that computes or blocks delays the other tasks; it is named in the log. Plain functions run
in threads. A coroutine is stopped by cancelling it, a function by an exception in its thread; a task that
does not end then is given up: its outcome is reported, its slot is reused, and a warning is logged.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from qcore.base.times import epoch_of
from qcore.execution.run import Run, RunContext
from qcore.execution.run_signals import traced
from qcore.execution.soft_limits import thread_limit
from qcore.pools.asyncio.threads import Stopped, Threads, interrupt
from qcore.pools.asyncio.watchdog import Watchdog
from qcore.pools.base import PoolFeatures, PoolSetup, Running
from qcore.pools.in_process import InProcessPool
from qcore.pools.stacks import AWAIT, Stack, Thread, frames, in_order, of_coroutine, system_ids, watch_threads
from qcore.wire.outcome import End, Job, Outcome

log = logging.getLogger("qcore.worker")

#: how long a task may take to end after it was stopped, seconds
STOP_S = 2.0
LOOK_S = 0.25


class RunningCoroutine:
    """One running job."""

    __slots__ = ("end", "job", "killed_at", "over", "run", "since", "task", "thread")

    def __init__(self, run: Run) -> None:
        self.run, self.job, self.since = run, run.job, time.monotonic()
        self.task: asyncio.Task[None] | None = None
        self.thread: int | None = None
        self.end: End | None = None
        self.killed_at = 0.0
        self.over = False

    def was_killed(self) -> End | None:
        return self.end

    def __str__(self) -> str:
        return f"{self.run.message.task}[{self.run.message.id}]"


class AsyncioPool(InProcessPool):
    """Run coroutines in one event loop."""

    name: ClassVar[str] = "asyncio"
    features: ClassVar[PoolFeatures] = PoolFeatures(
        grow=True, terminate=True, soft_limit=True, hard_limit=True
    )
    default_concurrency: ClassVar[int | None] = 100
    most: ClassVar[int] = 10_000

    def __init__(self, setup: PoolSetup) -> None:
        super().__init__(setup)
        self._flights: dict[int, RunningCoroutine] = {}
        self._starting = False
        self._tools = RunContext(
            setup.app, setup.node, setup.accept, thread_limit, setup.extended, passes=(Stopped,)
        )
        self._threads = Threads()
        self._ending = threading.Lock()

    def start(self) -> None:
        if self.setup.before_run is not None:
            self.setup.before_run()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="asyncio-pool", daemon=True)
        self._thread.start()
        self._watch = Watchdog(self._loop, self._thread, self._named)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    # --- in the loop's thread

    def _start_more(self) -> None:
        self._starting = False
        while self._waiting and len(self._flights) < self._size:
            try:
                job = self._waiting.popleft()
            except IndexError:
                return  # withdrawn at this moment
            flight = RunningCoroutine(Run(job, self._tools))
            self._flights[job.number] = flight
            if flight.run.request is None:
                self._ended(flight, flight.run.outcome)
            elif flight.run.task.is_async:
                flight.task = self._loop.create_task(self._run_coroutine(flight), name=str(flight))
            else:
                self._threads.submit(self._call, flight)

    async def _run_coroutine(self, flight: RunningCoroutine) -> None:
        self._ended(flight, await flight.run.call_async(flight.was_killed))

    # --- in any of the threads

    def _call(self, flight: RunningCoroutine) -> None:
        flight.thread = threading.get_ident()
        try:
            outcome = traced(flight.run)
        except BaseException as exc:  # Stopped, raised at any point
            outcome = flight.run.outcome
            outcome.end, outcome.text = End.FAILURE, repr(exc)
        with self._ending:
            flight.thread = None
        if flight.end is not None:
            outcome.end, outcome.meta, outcome.sends, outcome.before = flight.end, None, [], None
        self._ended(flight, outcome)
        self._loop.call_soon_threadsafe(self._start_more)

    def _ended(self, flight: RunningCoroutine, outcome: Outcome) -> None:
        """Report an outcome, once."""
        with self._ending:
            if flight.over:
                return
            flight.over = True
        self._flights.pop(flight.job.number, None)
        self._done.append(outcome)
        if self._waiting and flight.task is not None and threading.get_ident() == self._thread.ident:
            self._start_more()
        self._pipe.ring()

    # --- in the worker's thread

    def room(self) -> int:
        return max(self._size + self.pace.depth - 1 - self._held, 0)

    def give(self, jobs: Sequence[Job]) -> None:
        self._held += len(jobs)
        self._waiting.extend(jobs)
        if not self._starting:
            self._starting = True
            self._loop.call_soon_threadsafe(self._start_more)

    def tick(self) -> list[int]:
        """Check the loop and the tasks that were stopped; when every slot is stuck, return the waiting
        jobs to the broker."""
        flights = list(self._flights.values())
        self._watch.look(bool(flights))
        now = time.monotonic()
        for flight in flights:
            if flight.killed_at and now - flight.killed_at > STOP_S:
                self._give_up(flight)
        if self._waiting and sum(now - f.since > 0.1 for f in flights) >= self._size:
            return self.withdraw()
        return []

    def tick_s(self) -> float:
        if self._waiting:
            return 0.1
        return LOOK_S if self._flights else 1.0

    def stacks(self, numbers: Sequence[int], soon: Callable[[Callable[[], None]], None]) -> list[Stack]:
        found: dict[int, Stack] = {}
        threads: dict[int, Thread] = {}
        ids = system_ids()
        for number in numbers:
            flight = self._flights.get(number)
            if flight is None:
                continue
            coroutine: Any = flight.task.get_coro() if flight.task is not None else None
            if flight.thread is not None:
                threads[number] = Thread(flight.thread, ids.get(flight.thread, 0))
            elif getattr(coroutine, "cr_running", False) and self._thread.ident is not None:
                threads[number] = Thread(self._thread.ident, self._thread.native_id or 0)
            elif getattr(coroutine, "cr_suspended", False):
                where, awaited = of_coroutine(coroutine)
                found[number] = Stack(number, AWAIT, frames(where), awaited)
        return in_order(numbers, {**found, **watch_threads(threads)})

    def running(self) -> list[Running]:
        pid = os.getpid()
        return [Running(f.job.number, f.since, pid) for f in list(self._flights.values())]

    def _named(self) -> dict[Any, str]:
        """The names of the running coroutines, by their asyncio task."""
        return {f.task: str(f) for f in list(self._flights.values()) if f.task is not None}

    # --- stopping one

    def kill(self, number: int, end: End, signum: int) -> bool:
        flight = self._flights.get(number)
        if flight is None or flight.over:
            return False
        flight.end, flight.killed_at = end, time.monotonic()
        if flight.task is not None:
            self._loop.call_soon_threadsafe(flight.task.cancel)
        else:
            with self._ending:
                if flight.thread is not None:
                    interrupt(flight.thread)
        return True

    def _give_up(self, flight: RunningCoroutine) -> None:
        """Report a task that was stopped but has not ended, and reuse its slot."""
        assert flight.end is not None
        log.warning("%s was cancelled %.0f s ago and still runs; its slot is reused", flight, STOP_S)
        now = time.monotonic()
        self._ended(
            flight,
            Outcome(flight.job.number, flight.end, epoch_of(flight.since), now - flight.since, os.getpid()),
        )
        self._loop.call_soon_threadsafe(self._start_more)

    # --- changing

    @property
    def size(self) -> int:
        return self._size

    def grow(self, n: int) -> None:
        self._size += n
        self._loop.call_soon_threadsafe(self._start_more)

    def shrink(self, n: int) -> None:
        if n > self._size:
            raise ValueError(f"the pool has {self._size} slots")
        self._size -= n

    def info(self) -> dict[str, Any]:
        return {**super().info(), "in-flight": len(self._flights)}

    def stop(self) -> None:
        """Cancel running tasks. Those that ignore it end with the process; their outcomes are dropped."""
        self.withdraw()
        if not self._loop.is_running():
            return
        for flight in list(self._flights.values()):
            with self._ending:
                flight.over = True
            if flight.thread is not None:
                interrupt(flight.thread)
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop)
        self._thread.join(STOP_S)
        self._threads.stop()

    async def _cancel_all(self) -> None:
        mine = asyncio.current_task()
        others = [t for t in asyncio.all_tasks() if t is not mine]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=1.0)
        self._loop.stop()
