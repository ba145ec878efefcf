"""The tasks."""

import time
from typing import Any

from celery import chord, current_app, current_task, group, shared_task, states
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from .celery import app, logger, note


@app.task(bind=True, name="plain.add")
def add(self: Any, x: int, y: int) -> int:
    logger.info("adding %s and %s", x, y)
    note("add", self.scope, self.request.tenant, current_task.request.id == self.request.id)
    return x + y


@shared_task(name="plain.total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(bind=True, name="plain.flaky", autoretry_for=(ConnectionError,), max_retries=3, retry_backoff=False)
def flaky(self: Any, succeeds_at: int) -> int:
    self.default_retry_delay = 0
    if self.request.retries < succeeds_at:
        raise ConnectionError(f"attempt {self.request.retries}")
    return int(self.request.retries)


@app.task(bind=True, name="plain.counted")
def counted(self: Any, number: int) -> int:
    note("counted", number, self.request.hostname)
    return number


@app.task(name="plain.fail", throws=(KeyError,))
def fail() -> None:
    raise KeyError("expected")


@app.task(bind=True, name="plain.progress")
def progress(self: Any) -> str:
    self.update_state(state="PROGRESS", meta={"done": 1})
    assert states.SUCCESS == "SUCCESS"
    return current_app.main


@app.task(name="plain.ignored")
def ignored() -> None:
    raise Ignore


@app.task(name="plain.rejected", acks_late=True)
def rejected() -> None:
    raise Reject("no", requeue=False)


@app.task(name="plain.slow", soft_time_limit=1)
def slow() -> str:
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        return "cut"
    return "whole"


@app.task(name="plain.mail", ignore_result=True)
def mail(to: str) -> None:
    note("mail", to)


@app.task(bind=True, name="plain.replaced")
def replaced(self: Any, x: int) -> Any:
    raise self.replace(add.s(x, x) | add.s(1))


@app.task(name="plain.parent")
def parent() -> None:
    mail.delay("child")
    chord(group(add.s(i, i) for i in range(3)), total.s()).apply_async()
