"""The pool contract: where jobs run, and who knows what runs where.

In:  jobs.  Out: outcomes, one for each job that was started.
The worker's loop owns the pool and is the only one to call it, except running() and info(), which
any thread may call. A job is in exactly one place: waiting in the pool, running, or out of it;
withdraw() takes back what waits, and what was taken back never starts.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from qcore.wire.outcome import End, Job, Outcome

#: how much work a slot holds ahead, in seconds: enough to hide a round trip to the broker
AHEAD_S = 0.02
MAX_DEPTH = 64
#: a task running longer than this makes way: what waits behind it goes elsewhere
SLOW_S = 0.002
#: and when nobody here is free, back to the broker after this
STUCK_S = 0.1


class PoolFeatures(msgspec.Struct, frozen=True):
    """What a pool can do."""

    grow: bool = False
    terminate: bool = False  # stop one running task
    soft_signal: bool = False  # kill() with SIGUSR1 raises SoftTimeLimitExceeded in the task
    soft_limit: bool = False
    hard_limit: bool = False


class PoolSetup(msgspec.Struct):
    """What a pool is made from."""

    app: Any
    node: str
    concurrency: int
    accept: frozenset[str] = frozenset(("json",))
    max_tasks_per_child: int | None = None
    max_memory_per_child_kib: int | None = None
    strict_prefetch: bool = False  # worker_prefetch_multiplier=1: never hold more than one a slot
    extended: bool = False  # result_extended
    before_run: Any = None  # called once in every process that runs tasks (logging)


class Running(msgspec.Struct, frozen=True):
    """One running job."""

    number: int
    since: float  # monotonic seconds, which all processes of a host share
    pid: int


class Pool(ABC):
    """Slots that run jobs."""

    name: ClassVar[str]
    features: ClassVar[PoolFeatures]
    #: slots when nobody says how many; None: one for each CPU
    default_concurrency: ClassVar[int | None] = None
    #: and the most there may be
    most: ClassVar[int] = 512

    def __init__(self, setup: PoolSetup) -> None:
        self.setup = setup
        self.pace = Pace(setup.strict_prefetch)

    @abstractmethod
    def start(self) -> None:
        """Be ready. Called before the process has threads or broker connections."""

    @abstractmethod
    def room(self) -> int:
        """How many more jobs it would take now."""

    @abstractmethod
    def is_idle(self) -> bool:
        """Whether a slot has nothing to do."""

    @abstractmethod
    def give(self, jobs: Sequence[Job]) -> None:
        """Take jobs; at most room() of them."""

    def fds(self) -> list[int]:
        """Readable when ready() should be called."""
        return []

    def blocked_fds(self) -> list[int]:
        """Those of fds() for which ready() should be called when they are writable as well."""
        return []

    def ready(self, fd: int) -> None:
        """A descriptor of fds() is readable, or one of blocked_fds() writable."""

    @abstractmethod
    def collect(self) -> list[Outcome]:
        """Outcomes since the last call. A pool without slots of its own runs one job in here."""

    def wants_turn(self) -> bool:
        """Whether collect() should be called again at once."""
        return False

    def tick(self) -> list[int]:
        """Look after the slots; the numbers of waiting jobs that should go back to the broker."""
        return []

    def tick_s(self) -> float:
        """How soon tick() should be called again, seconds."""
        return 1.0

    @abstractmethod
    def withdraw(self) -> list[int]:
        """Take back every job that has not started."""

    @abstractmethod
    def busy(self) -> int:
        """How many jobs it holds, running and waiting."""

    @abstractmethod
    def running(self) -> list[Running]: ...

    def kill(self, number: int, end: End, signum: int) -> bool:
        """Stop a running job; its outcome will say `end`. False: it does not run here."""
        return False

    @property
    @abstractmethod
    def size(self) -> int: ...

    def grow(self, n: int) -> None:
        raise ValueError(f"the {self.name} pool cannot grow")

    def shrink(self, n: int) -> None:
        raise ValueError(f"the {self.name} pool cannot shrink")

    def restart(self) -> None:
        """Replace the processes, each after its task; nothing to do where there are none."""

    def pids(self) -> list[int]:
        """Processes that run tasks."""
        return [os.getpid()]

    def info(self) -> dict[str, Any]:
        """For `inspect stats`, with Celery's keys."""
        return {
            "implementation": f"qcore.pools.{self.name}",
            "max-concurrency": self.size,
            "processes": self.pids(),
            "max-tasks-per-child": self.setup.max_tasks_per_child or "N/A",
            "put-guarded-by-semaphore": False,
            "timeouts": [0, 0],
        }

    @abstractmethod
    def stop(self) -> None:
        """End the slots; nothing runs any more, or what runs is killed."""


class Pace:
    """How long runs take lately, and how many jobs a slot should hold therefore."""

    __slots__ = ("_strict", "depth", "typical_s")

    def __init__(self, strict: bool = False) -> None:
        self.typical_s: float | None = None
        self.depth = 1
        self._strict = strict

    def saw(self, runtime_s: float) -> None:
        """A run took that long. One slow run weighs at once, many fast ones slowly."""
        typical = self.typical_s
        if typical is None:
            typical = runtime_s
        else:
            typical += (runtime_s - typical) * (0.3 if runtime_s < typical else 0.5)
        self.typical_s = typical
        if not self._strict:
            self.depth = MAX_DEPTH if typical * MAX_DEPTH < AHEAD_S else max(int(AHEAD_S / typical), 1)
