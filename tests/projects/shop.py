"""A shop for fleets of both kinds: the same tasks for a qcore worker and, with SHOP=celery, for Celery's.

Each run appends a line to the file SHOP_LOG, so that a test can count what the workers did.
"""

from __future__ import annotations

import os
import time
from typing import Any

if os.environ.get("SHOP") == "celery":
    from celery import Celery as App
else:
    from qcore import App  # type: ignore[assignment]

app = App("shop", set_as_current=False)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False, task_acks_late=True)


class GatewayTimeout(Exception):
    """A class of this module: its name on the wire has dots."""


def note(task: Any, word: str) -> None:
    """One line: the worker, the task, how its run ended, its id."""
    request = task.request
    fd = os.open(os.environ["SHOP_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, f"{request.hostname} {task.name} {word} {request.id}\n".encode())
    finally:
        os.close(fd)


@app.task(name="shop.sell", bind=True)
def sell(self: Any, number: int = 0, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    note(self, "done")
    return number


@app.task(name="shop.total", bind=True)
def total(self: Any, numbers: list[int]) -> int:
    note(self, "done")
    return sum(numbers)


@app.task(name="shop.charge", bind=True)
def charge(self: Any, number: int = 0) -> None:
    note(self, "failed")
    raise GatewayTimeout(f"no answer for {number}")


@app.task(name="shop.deploy", bind=True)
def deploy(self: Any, number: int = 0) -> None:
    note(self, "failed")
    raise KeyError("schema")


@app.task(name="shop.flaky", bind=True, max_retries=3)
def flaky(self: Any) -> int:
    if self.request.retries < 1:
        note(self, "retried")
        raise self.retry(countdown=0.5, exc=ValueError("not yet"))
    note(self, "done")
    return int(self.request.retries)


@app.task(name="shop.hold", bind=True)
def hold(self: Any, release: str) -> None:
    note(self, "began")
    while not os.path.exists(release):
        time.sleep(0.05)
    note(self, "done")
