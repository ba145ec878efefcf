"""Errors come in, and are merged."""

from typing import Any

from celery import chain, chord, group

from .celery import app, instrumented


@instrumented("inbox.save", silo="region", acks_late=True, time_limit=60, soft_time_limit=50)
def save(event: int) -> int:
    return event * 10


@instrumented("inbox.merge", max_retries=None)
def merge(events: list[int]) -> int:
    return sum(events)


@app.task
def bare(x: int) -> int:
    return x + 1


def calls() -> dict[str, Any]:
    """What the client does."""
    return {
        "save": save.delay(4).get(timeout=90),
        "headers": save.apply_async((5,), headers={"region": "us"}).get(timeout=90),
        "group": group(save.s(n) for n in range(3)).apply_async().get(timeout=90),
        "chord": chord([save.s(n) for n in range(3)])(merge.s()).get(timeout=90),
        "chain": chain(save.s(1), bare.s(), save.s())().get(timeout=90),
        "name": bare.name,
        "queue": app.conf.task_default_queue,
    }
