"""A pool class as projects write them for Celery's worker: threads, and notes of what is called.

It runs on Celery's worker and on qcore's: `-P tests.projects.pooled:Threads`.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from celery import Celery
from celery.concurrency.base import BasePool, apply_target
from celery.exceptions import SoftTimeLimitExceeded

app = Celery("pooled", broker=os.environ["BROKER"])
app.conf.update(result_backend=os.environ["BROKER"], worker_prefetch_multiplier=1)


def note(word: str) -> None:
    with Path(os.environ["NOTES"]).open("a") as file:
        file.write(f"{word}\n")


class Threads(BasePool):
    """A pool of threads."""

    def on_start(self) -> None:
        note(f"on_start {self.limit} {self.app.main}")
        self.executor = ThreadPoolExecutor(self.limit)

    def did_start_ok(self) -> bool:
        note("did_start_ok")
        return os.environ.get("STARTS") != "no"

    def on_soft_timeout(self, job: Any) -> None:
        note("on_soft_timeout")

    def on_hard_timeout(self, job: Any) -> None:
        note("on_hard_timeout")

    def maintain_pool(self, *args: Any, **kwargs: Any) -> None:
        note("maintain_pool")

    def on_close(self) -> None:
        note("on_close")

    def on_stop(self) -> None:
        note("on_stop")
        self.executor.shutdown()

    def on_terminate(self) -> None:
        note("on_terminate")
        self.executor.shutdown(wait=False, cancel_futures=True)

    def on_apply(
        self,
        target: Any,
        args: Any = (),
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **_: Any,
    ) -> Any:
        note("on_apply")
        return self.executor.submit(apply_target, target, args, kwargs, callback, accept_callback)


class Growing(Threads):
    """One whose number of threads changes."""

    def grow(self, n: int) -> None:
        self.limit += n
        self.executor._max_workers = self.limit

    def shrink(self, n: int) -> None:
        self.limit -= n


@app.task(name="pooled.add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="pooled.fails")
def fails() -> None:
    raise ValueError("as it should")


@app.task(name="pooled.late", soft_time_limit=0.1, time_limit=30)
def late() -> int:
    try:
        for _ in range(30):
            time.sleep(0.02)
    except SoftTimeLimitExceeded:
        return 1
    return 1
