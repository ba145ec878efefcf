"""Each pool passes the pool suite."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from qcore.pools.celery_pool import BasePool, apply_target
from tests.contracts.pool_contract import ManySlots, PoolContract, Processes


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
