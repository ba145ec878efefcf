"""The tasks of proj.py for real Celery, under the same names; also a client of either worker."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery

app = Celery(
    "celeryproj",
    broker=os.environ.get("CELERY_BROKER_URL", "memory://"),
    backend=os.environ.get("CELERY_RESULT_BACKEND"),
    set_as_current=False,
)
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    task_acks_late=True,
)


def note(path: str, line: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


@app.task(name="proj.add")
def add(x: Any, y: Any) -> Any:
    return x + y


@app.task(name="proj.mul")
def mul(x: Any, y: Any) -> Any:
    return x * y


@app.task(name="proj.fail")
def fail(*_: Any) -> None:
    raise ValueError("boom")


@app.task(name="proj.nap")
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.task(name="proj.flaky", bind=True, max_retries=5)
def flaky(self: Any, path: str = "") -> int:
    if path:
        note(path, f"run {self.request.retries}")
    if self.request.retries < 2:
        raise self.retry(countdown=0.1, exc=ValueError("not yet"))
    return int(self.request.retries)


@app.task(name="proj.log_start", bind=True)
def log_start(self: Any, path: str, ident: str, seconds: float = 0.0) -> str:
    redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
    note(path, f"{ident} {redelivered} {os.getpid()}")
    time.sleep(seconds)
    note(path, f"done {ident}")
    return ident


@app.task(name="proj.echo")
def echo(**kw: Any) -> dict[str, Any]:
    return kw


@app.task(name="proj.ignored", ignore_result=True)
def ignored(path: str = "", ident: str = "") -> str:
    if path:
        note(path, f"ignored {ident}")
    return "nobody sees this"
