"""Each pool passes the pool suite."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from qcore.pools.celery_pool import BasePool, apply_target
from qcore.wire.outcome import End
from tests.contracts.pool_contract import Bench, ManySlots, PoolContract, Processes


class TestSolo(PoolContract):
    kind = "solo"


class TestThreads(PoolContract, ManySlots):
    kind = "threads"


class TestPrefork(PoolContract, ManySlots, Processes):
    kind = "prefork"


class Executor(BasePool):
    """As a project writes it for Celery's worker."""

    def on_start(self) -> None:
        self.executor = ThreadPoolExecutor(self.limit)

    def on_stop(self) -> None:
        self.executor.shutdown()

    def on_terminate(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)

    def on_apply(self, target: Any, args: Any, kwargs: Any, **options: Any) -> Any:
        callbacks = options["callback"], options["accept_callback"]
        return self.executor.submit(apply_target, target, args, kwargs, *callbacks)


class TestOfCelerysKind(PoolContract):
    """A class derived from celery.concurrency.base.BasePool; no job waits in it."""

    kind = f"{__name__}:Executor"

    def test_a_running_job_tells_where_it_is(self, make: Callable[..., Bench], tmp_path: Path) -> None:
        """Not here: the class runs a job where it likes."""
        (stack,) = make().pool.stacks([1], lambda call: None)

        assert "does not tell its stacks" in stack.problem


class Forks(BasePool):
    """A process for each task, as some projects have it: it can be killed, and the pool grows."""

    def on_start(self) -> None:
        self.lock = threading.Lock()

    def on_apply(self, target: Any, args: Any, kwargs: Any, **options: Any) -> Any:
        threading.Thread(target=self._fork, args=(target, args, options), daemon=True).start()

    def _fork(self, target: Any, args: Any, options: dict[str, Any]) -> None:
        here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=lambda: there.send(target(*args)))
        process.start()
        there.close()
        options["accept_callback"](process.pid, time.monotonic())
        try:
            value = here.recv()
        except EOFError:
            value = RuntimeError("the process ended")
        process.join()
        options["callback"](value)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        os.kill(pid, signal)

    def grow(self, n: int = 1) -> None:
        self.limit += n

    def shrink(self, n: int = 1) -> None:
        self.limit -= n


@pytest.fixture
def forks() -> Iterator[Bench]:
    bench = Bench(f"{__name__}:Forks")
    yield bench
    bench.pool.stop()


def test_a_class_of_celerys_kind_kills_and_grows(forks: Bench, tmp_path: Path) -> None:
    job = forks.job("hold", str(tmp_path / "never"))
    forks.give(job)
    forks.until(lambda: forks.pool.running() != [])

    forks.pool.grow(2)
    assert forks.pool.size == 4
    with pytest.raises(ValueError, match="the pool has 4 slots"):
        forks.pool.shrink(5)
    assert forks.pool.kill(job.number, End.TERMINATED, signal.SIGKILL)
    forks.all_done(1)
    (outcome,) = forks.outcomes.values()

    assert outcome.end == End.TERMINATED
    assert forks.pool.busy() == 0


def test_a_process_that_ends_by_itself_loses_its_run(forks: Bench) -> None:
    forks.give(forks.job("die"))
    forks.all_done(1)

    (outcome,) = forks.outcomes.values()

    assert outcome.end == End.LOST
    assert "the process ended" in outcome.text
