"""The tasks of random workflows (tests/support/trees.py), for Celery alone; each run is counted in Redis."""

from __future__ import annotations

import os
from typing import Any

import redis
from celery import Celery, signals
from celery.exceptions import Ignore

from tests.support.trees import build

app = Celery("trees", broker=os.environ["TREES_URL"], backend=os.environ["TREES_URL"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_default_queue="trees",
    task_acks_late=True,
    worker_prefetch_multiplier=4,
    broker_pool_limit=None,
)
_notes: dict[int, redis.Redis] = {}


def notes() -> redis.Redis:
    pid = os.getpid()
    if pid not in _notes:
        _notes[pid] = redis.Redis.from_url(os.environ["TREES_NOTES"])
    return _notes[pid]


def note(tree: str, what: str) -> None:
    notes().hincrby(f"runs.{tree}", what, 1)


@signals.task_prerun.connect
def count(**kwargs: Any) -> None:
    notes().incr("all")


@app.task(name="trees.fence")
def fence() -> None:
    return None


@app.task(name="trees.run", bind=True, max_retries=5)
def run(self: Any, *args: Any, tree: str, n: int, do: str, by: Any = None) -> Any:
    note(tree, f"{n}")
    if do == "fail":
        raise ValueError(n)
    if do == "retry" and self.request.retries < 2:
        raise self.retry(countdown=0)
    if do == "gives_up":
        raise self.retry(countdown=0, max_retries=1, exc=KeyError(n))
    if do == "Ignore":
        raise Ignore
    if do == "replace":
        import celery

        return self.replace(build(by, tree, celery, self.app))
    return [n, *args]


@app.task(name="trees.item")
def item(*args: Any) -> Any:
    tree, n, *rest = args[0] if isinstance(args[0], list) else args
    note(tree, f"{n}")
    return [n, *rest]


@app.task(name="trees.failed")
def failed(task_id: str, *, tree: str, n: int) -> None:
    """An errback that takes the id."""
    note(tree, f"{n}")


@app.task(name="trees.told")
def told(request: Any, exc: Any, traceback: Any, *, tree: str, n: int) -> None:
    """An errback that takes the failure itself."""
    note(tree, f"{n} {type(exc).__name__}")
