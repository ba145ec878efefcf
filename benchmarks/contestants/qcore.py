"""qcore: prefork, late ack (its default), JSON, results kept by the broker."""

from __future__ import annotations

from typing import Any

from benchmarks.contestants import QUEUE, url
from qcore import App

app = App("bench", broker=url(), task_default_queue=QUEUE)


@app.task(name="bench.noop")
def noop() -> None:
    """Nothing."""


def send_all(n: int) -> list[Any]:
    """Many calls at once, in qcore's way."""
    return app.send_many(noop.s() for _ in range(n))
