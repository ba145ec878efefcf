"""A pool class that a project wrote for Celery's worker, as a pool of qcore's.

In:  a class derived from celery.concurrency.base.BasePool, with on_start, on_stop and on_apply, which
`-P module:Class` names.  Out: a Pool, which gives each job to its apply_async() and collects the outcomes.
on_apply(target, args, kwargs, callback=…, accept_callback=…) calls target in a thread, a greenlet, or a
process that was forked after on_start(), and then callback() with what it returned.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from qcore.errors import ConfigError
from qcore.execution.run import RunContext, run
from qcore.execution.soft_limits import thread_limit
from qcore.pools.base import PoolFeatures, PoolSetup, Running
from qcore.pools.in_process import InProcessPool
from qcore.wire.outcome import End, Job, Outcome

log = logging.getLogger("qcore.worker")


def apply_target(
    target: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: dict[str, Any] | None = None,
    callback: Callable[[Any], Any] | None = None,
    accept_callback: Callable[[int, float], Any] | None = None,
    pid: int | None = None,
    getpid: Callable[[], int] = os.getpid,
    propagate: tuple[type[BaseException], ...] = (),
    monotonic: Callable[[], float] = time.monotonic,
    **_: Any,
) -> None:
    """Call the target here: first accept_callback with the process and the time, then callback with what the
    target returned."""
    if accept_callback is not None:
        accept_callback(pid or getpid(), monotonic())
    value = target(*args, **(kwargs or {}))
    if callback is not None:
        callback(value)


class BasePool:
    """The base of such classes. limit: the number of slots; options: whatever else it is made with."""

    RUN, CLOSE, TERMINATE = 1, 2, 3

    signal_safe = True
    is_green = False
    uses_semaphore = False
    task_join_will_block = True
    body_can_be_buffer = False
    _state: int | None = None
    _pool: Any = None

    def __init__(
        self,
        limit: int | None = None,
        putlocks: bool = True,
        forking_enable: bool = True,
        callbacks_propagate: tuple[type[BaseException], ...] = (),
        app: Any = None,
        **options: Any,
    ) -> None:
        self.limit, self.putlocks, self.app, self.options = limit, putlocks, app, options
        self.forking_enable, self.callbacks_propagate = forking_enable, callbacks_propagate

    # --- what a class overrides

    def on_start(self) -> None: ...
    def on_stop(self) -> None: ...
    def on_close(self) -> None: ...
    def on_terminate(self) -> None: ...

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"the pool class {type(self).__name__} has no on_apply()")

    def did_start_ok(self) -> bool:
        return True

    def flush(self) -> None: ...
    def maintain_pool(self, *args: Any, **kwargs: Any) -> None: ...
    def register_with_event_loop(self, loop: Any) -> None: ...
    def on_soft_timeout(self, job: Any) -> None: ...
    def on_hard_timeout(self, job: Any) -> None: ...

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        raise NotImplementedError(f"the pool class {type(self).__name__} cannot stop a running task")

    def restart(self) -> None:
        raise NotImplementedError(f"the pool class {type(self).__name__} cannot restart")

    # --- what the worker calls

    def start(self) -> None:
        self.on_start()
        self._state = self.RUN

    def close(self) -> None:
        self._state = self.CLOSE
        self.on_close()

    def stop(self) -> None:
        self.on_stop()
        self._state = self.TERMINATE

    def terminate(self) -> None:
        self._state = self.TERMINATE
        self.on_terminate()

    def apply_async(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        return self.on_apply(
            target,
            args or [],
            kwargs or {},
            waitforslot=self.putlocks,
            callbacks_propagate=self.callbacks_propagate,
            **options,
        )

    def _get_info(self) -> dict[str, Any]:
        kind = type(self)
        return {"implementation": f"{kind.__module__}:{kind.__name__}", "max-concurrency": self.limit}

    @property
    def info(self) -> dict[str, Any]:
        return self._get_info()

    @property
    def active(self) -> bool:
        return self._state == self.RUN

    @property
    def num_processes(self) -> int | None:
        return self.limit


#: what a run needs of its process; a process that the pool forks inherits it
_context: list[RunContext] = []


def run_job(job: Job) -> Outcome:
    """The target of apply_async(): run a job where the pool calls it."""
    return run(job, _context[0])


class CeleryPool(InProcessPool):
    """A pool around an object of `kind`. It holds as many jobs as it has slots, and none that wait."""

    name: ClassVar[str] = "celery"
    features: ClassVar[PoolFeatures] = PoolFeatures()
    kind: ClassVar[type[BasePool]] = BasePool

    def __init__(self, setup: PoolSetup) -> None:
        super().__init__(setup)
        self.inner = self.kind(
            setup.concurrency,
            app=setup.app,
            initargs=(setup.app, setup.node),
            maxtasksperchild=setup.max_tasks_per_child,
            max_memory_per_child=setup.max_memory_per_child_kib,
            threads=True,
        )
        self._size = int(self.inner.limit or setup.concurrency)
        self._started: dict[int, Running] = {}
        self._killed: set[int] = set()

    def start(self) -> None:
        setup = self.setup
        if setup.before_run is not None:
            setup.before_run()
        _context[:] = [RunContext(setup.app, setup.node, setup.accept, thread_limit, setup.extended)]
        self.inner.start()
        if not self.inner.did_start_ok():
            raise ConfigError(f"the pool class {self.kind.__name__} did not start (did_start_ok)")

    def room(self) -> int:
        return max(self._size - self._held, 0)

    def give(self, jobs: Sequence[Job]) -> None:
        self._held += len(jobs)
        for job in jobs:
            self._give(job)

    def _give(self, job: Job) -> None:
        number, began = job.number, time.time()

        def accepted(pid: int | None, at: float | None, *_: Any) -> None:
            since = time.monotonic() if at is None else at
            self._started[number] = Running(number, since, pid or os.getpid())

        def ended(value: Any) -> None:
            if number in self._killed:
                self._killed.discard(number)
                return  # its outcome came from kill()
            if not isinstance(value, Outcome):
                log.error("the pool class %s lost a run: %s", self.kind.__name__, value)
                value = Outcome(number, End.LOST, began, time.time() - began, os.getpid(), text=str(value))
            self._started.pop(number, None)
            self._done.append(value)
            self._pipe.ring()

        try:
            self.inner.apply_async(
                run_job, args=(job,), callback=ended, error_callback=ended, accept_callback=accepted
            )
        except Exception as exc:  # of the user's class: the job has not run
            log.exception("the pool class %s refused a job: %r", self.kind.__name__, exc)
            ended(exc)

    def withdraw(self) -> list[int]:
        return []

    def running(self) -> list[Running]:
        return list(self._started.values())

    def kill(self, number: int, end: End, signum: int) -> bool:
        running = self._started.get(number)
        if running is None or not self.features.terminate:
            return False
        self._killed.add(number)
        self.inner.terminate_job(running.pid, signum)
        del self._started[number]
        took_s = time.monotonic() - running.since
        self._done.append(Outcome(number, end, time.time() - took_s, took_s, running.pid))
        self._pipe.ring()
        return True

    def grow(self, n: int) -> None:
        self._resize("grow", n)

    def shrink(self, n: int) -> None:
        if n > self._size:
            raise ValueError(f"the pool has {self._size} slots")
        self._resize("shrink", -n)

    def _resize(self, verb: str, change: int) -> None:
        if not self.features.grow:
            raise ValueError(f"the pool class {self.kind.__name__} has no {verb}()")
        getattr(self.inner, verb)(abs(change))
        self._size += change
        self.inner.maintain_pool()

    def restart(self) -> None:
        if overrides(self.kind, "restart"):
            self.inner.restart()

    @property
    def size(self) -> int:
        return self._size

    def info(self) -> dict[str, Any]:
        return {**super().info(), **self.inner.info}

    def stop(self) -> None:
        if self.inner.active:
            self.inner.close()
            if self._held > len(self._done):
                self.inner.terminate()
            else:
                self.inner.stop()


def pool_around(kind: type[BasePool]) -> type[CeleryPool]:
    """The Pool class for a class derived from BasePool."""
    features = PoolFeatures(
        grow=hasattr(kind, "grow") and hasattr(kind, "shrink"), terminate=overrides(kind, "terminate_job")
    )
    name = f"{kind.__module__}:{kind.__name__}"
    return type(kind.__name__, (CeleryPool,), {"kind": kind, "name": name, "features": features})


def overrides(kind: type[BasePool], name: str) -> bool:
    return getattr(kind, name) is not getattr(BasePool, name)
