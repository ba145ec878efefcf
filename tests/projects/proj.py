"""A small project for tests with real processes: tasks for a qcore worker.

The broker and the result store come from the command line or the environment, as App reads it.
celeryproj.py has the same tasks under the same names for Celery.
"""

from __future__ import annotations

import os
import time
from typing import Any

from qcore import App
from qcore.worker.process.log_setup import get_task_logger

app = App("proj")


def note(path: str, line: str) -> None:
    """Append a line; short writes with O_APPEND are not torn, whoever else writes."""
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


@app.task(name="proj.compute")
def compute(seconds: float) -> str:
    """Use the processor without ever waiting."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "computed"


@app.task(name="proj.flaky", bind=True, max_retries=5)
def flaky(self: Any, path: str = "") -> int:
    """Fails twice, then says how often it was retried."""
    if path:
        note(path, f"run {self.request.retries}")
    if self.request.retries < 2:
        raise self.retry(countdown=0.1, exc=ValueError("not yet"))
    return int(self.request.retries)


@app.task(name="proj.log_start", bind=True)
def log_start(self: Any, path: str, ident: str, seconds: float = 0.0) -> str:
    """Write down that it starts and whether the broker says somebody may have started it before."""
    redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
    note(path, f"{ident} {redelivered} {os.getpid()}")
    time.sleep(seconds)
    note(path, f"done {ident}")
    return ident


@app.task(name="proj.hold")
def hold(path: str, ident: str, release: str) -> str:
    """As log_start, but it ends when the file `release` is there."""
    note(path, f"{ident} started")
    while not os.path.exists(release):
        time.sleep(0.1)
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


@app.task(name="proj.chatty")
def chatty(count: int = 3, pause: float = 0.0) -> int:
    """Logs, prints, and logs an error at its end."""
    log = get_task_logger(__name__)
    for number in range(count):
        log.info("step %d \x1b[31m of %d", number, count)
        time.sleep(pause)
    print("printed")
    try:
        raise KeyError("lost")
    except KeyError:
        log.exception("it went wrong")
    return count
