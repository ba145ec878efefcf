"""Celery: prefork, late ack, JSON, results in the same Redis.

The prefetch multiplier is 128: with its default of 4 a worker is starved by round trips, and the
comparison should be with Celery at its best. No gossip, mingle, heartbeat or events (see __init__.py).
"""

from __future__ import annotations

from typing import Any

from celery import Celery, group

from benchmarks.contestants import QUEUE, url

app = Celery("bench", broker=url(), backend=url())
app.conf.update(
    task_default_queue=QUEUE,
    task_acks_late=True,
    worker_prefetch_multiplier=128,
    worker_disable_rate_limits=True,
    broker_connection_retry_on_startup=True,
)


@app.task(name="bench.noop")
def noop() -> None:
    """Nothing."""


def send_all(n: int) -> list[Any]:
    """Many calls at once, in Celery's way."""
    return list(group(noop.s() for _ in range(n)).apply_async().results)
