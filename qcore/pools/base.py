"""The pool contract: where jobs run, and which job runs where.

In:  jobs.  Out: outcomes, one for each job that was started.
The worker's loop owns the pool and is the only one to call it, except running(), stacks() and info(), which
any thread may call. A job is in exactly one place: waiting in the pool, running, or out of it;
withdraw() takes back waiting jobs, and a job that was taken back never starts.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import msgspec

from qcore.pools.stacks import Stack
from qcore.wire.outcome import End, Job, Outcome

#: seconds of work a slot holds ahead: enough to hide a round trip to the broker
AHEAD_S = 0.02
MAX_DEPTH = 64
#: tasks count as short when a slot takes so many
SHORT = 8
#: jobs waiting behind a task that runs longer than this, in seconds, go to another slot
SLOW_S = 0.002
#: or back to the broker after this time, when no slot is free
STUCK_S = 0.1


class PoolFeatures(msgspec.Struct, frozen=True):
    """The capabilities of a pool."""

    grow: bool = False
    terminate: bool = False  # stop one running task
    soft_signal: bool = False  # kill() with SIGUSR1 raises SoftTimeLimitExceeded in the task
    soft_limit: bool = False
    hard_limit: bool = False


class PoolSetup(msgspec.Struct):
    """The settings a pool is created from."""

    app: Any
    node: str
    concurrency: int
    accept: frozenset[str] = frozenset(("json",))
    max_tasks_per_child: int | None = None
    max_memory_per_child_kib: int | None = None
    strict_prefetch: bool = False  # worker_prefetch_multiplier=1: never hold more than one job per slot
    extended: bool | str = False  # as in RunContext
    before_run: Any = None  # called once in every process that runs tasks (logging)
    command: tuple[str, ...] = ()  # what starts this worker; empty in a program that is no worker itself
    spawns: bool = False  # processes that run tasks are not forked: they are interpreters that run `command`


class Running(msgspec.Struct, frozen=True):
    """One running job."""

    number: int
    since: float  # monotonic seconds, which all processes of a host share
    pid: int


class Pool(ABC):
    """Slots that run jobs."""

    name: ClassVar[str]
    features: ClassVar[PoolFeatures]
    #: slots when no number is configured; None: one for each CPU
    default_concurrency: ClassVar[int | None] = None
    #: whether its processes are the worker's to announce, with worker_process_init and _shutdown
    sends_process_signals: ClassVar[bool] = False
    #: the maximum number of slots
    most: ClassVar[int] = 512

    def __init__(self, setup: PoolSetup) -> None:
        self.setup = setup
        #: what new processes load when they start, and whether again
        self.modules: dict[str, bool] = {}
        self.pace = RuntimeEstimate(setup.strict_prefetch)

    @abstractmethod
    def start(self) -> None:
        """Start the slots. Called before the process has threads or broker connections."""

    @abstractmethod
    def room(self) -> int:
        """The number of further jobs that it accepts now."""

    def ahead(self) -> int:
        """The number of jobs that it holds at once while tasks are short; 0 while they are not."""
        return self.busy() + self.room() if self.pace.depth >= SHORT else 0

    @abstractmethod
    def is_idle(self) -> bool:
        """Whether a slot has no job."""

    @abstractmethod
    def give(self, jobs: Sequence[Job]) -> None:
        """Accept jobs; at most room() of them."""

    def take(self, jobs: Sequence[Job]) -> None:
        """give(); a pool that has shrunk to nothing (--autoscale) gets its first slot before."""
        if not self.size:
            self.grow(1)
        self.give(jobs)

    def fds(self) -> list[int]:
        """Descriptors that are readable when ready() should be called."""
        return []

    def blocked_fds(self) -> list[int]:
        """Those of fds() for which ready() should also be called when they are writable."""
        return []

    def ready(self, fd: int) -> None:
        """Handle a readable descriptor of fds(), or a writable one of blocked_fds()."""

    @abstractmethod
    def collect(self) -> list[Outcome]:
        """The outcomes since the last call. A pool without slots of its own runs one job here."""

    def wants_turn(self) -> bool:
        """Whether collect() should be called again at once."""
        return False

    def tick(self) -> list[int]:
        """Check the slots; returns the numbers of waiting jobs that should go back to the broker."""
        return []

    def tick_s(self) -> float:
        """The longest time until the next tick(), seconds."""
        return 1.0

    @abstractmethod
    def withdraw(self) -> list[int]:
        """Take back every job that has not started; returns their numbers."""

    @abstractmethod
    def busy(self) -> int:
        """The number of jobs it holds, running and waiting."""

    @abstractmethod
    def running(self) -> list[Running]: ...

    def stacks(self, numbers: Sequence[int], soon: Callable[[Callable[[], None]], None]) -> list[Stack]:
        """Where these running jobs are now, each paused for at most some milliseconds. Called by the control
        thread; soon(what) calls what() in the worker's thread."""
        return [Stack(n, problem=f"the {self.name} pool does not tell its stacks") for n in numbers]

    def kill(self, number: int, end: End, signum: int) -> bool:
        """Stop a running job; its outcome will have `end`. False: it does not run here."""
        return False

    @property
    @abstractmethod
    def size(self) -> int: ...

    def grow(self, n: int) -> None:
        raise ValueError(f"the {self.name} pool cannot grow")

    def shrink(self, n: int) -> None:
        raise ValueError(f"the {self.name} pool cannot shrink")

    def restart(self) -> None:
        """Replace the processes, each after its task; no effect in pools without processes."""

    def pids(self) -> list[int]:
        """Processes that run tasks."""
        return [os.getpid()]

    def info(self) -> dict[str, Any]:
        """The pool's part of `inspect stats`, with Celery's keys."""
        return {
            "implementation": f"qcore.pools.{self.name}",
            "max-concurrency": self.size,
            "processes": self.pids(),
            "max-tasks-per-child": self.setup.max_tasks_per_child or "N/A",
            "put-guarded-by-semaphore": False,
            "timeouts": [0, 0],
        }

    def close(self) -> None:
        """The worker ends, and gives it no more jobs; running ones may still end."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the slots; running tasks end first or are killed."""

    def release(self) -> None:
        """Close the descriptors of a stopped pool, in a process that goes on without it."""


class RuntimeEstimate:
    """The recent runtime of tasks, and how many jobs a slot should hold as a consequence."""

    __slots__ = ("_strict", "depth", "typical_s")

    def __init__(self, strict: bool = False) -> None:
        self.typical_s: float | None = None
        self.depth = 1
        self._strict = strict

    def add_runtime(self, runtime_s: float) -> None:
        """Record a runtime. One slow run weighs at once, many fast ones slowly."""
        typical = self.typical_s
        if typical is None:
            typical = runtime_s
        else:
            typical += (runtime_s - typical) * (0.3 if runtime_s < typical else 0.5)
        self.typical_s = typical
        if not self._strict:
            self.depth = MAX_DEPTH if typical * MAX_DEPTH < AHEAD_S else max(int(AHEAD_S / typical), 1)
