"""A project whose tasks have a Request that writes down what is called, for Celery and qcore."""

from __future__ import annotations

import importlib
import os
import time
from typing import Any

OURS = os.environ.get("REQUESTED_BY") != "celery"
if OURS:
    from qcore import App as Celery
    from qcore.worker.services.task_signals import TaskRequest as Request
else:
    from celery import Celery  # type: ignore[no-redef]
    from celery.worker.request import Request  # type: ignore[assignment]
exceptions: Any = importlib.import_module("qcore.errors" if OURS else "celery.exceptions")

url = os.environ.get("REQUESTED_URL", "memory://")
app: Any = Celery("requested", broker=url, backend=url, set_as_current=False)
app.conf.update(broker_connection_retry_on_startup=True, task_acks_late=True, worker_hijack_root_logger=False)
MAIN = os.getpid()


def note(request: Any, what: str, *about: Any) -> None:
    with open(os.environ["REQUESTED_TO"], "a") as out:
        out.write(f"{request.name.partition('.')[2]} {os.getpid() == MAIN} {what} {about}\n")


class Noted(Request):
    def on_accepted(self, pid: int, time_accepted: float) -> Any:
        note(self, "accepted", type(pid).__name__, type(time_accepted).__name__, self.kwargs)
        return super().on_accepted(pid, time_accepted)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        note(self, "timeout", soft, float(timeout))
        return super().on_timeout(soft, timeout)

    def on_success(self, failed__retval__runtime: Any, **kwargs: Any) -> Any:
        failed, retval, runtime = failed__retval__runtime
        shown = retval if isinstance(retval, str) else type(retval.exception).__name__
        note(self, "success", bool(failed), shown, type(runtime).__name__, self.task.name)
        return super().on_success(failed__retval__runtime, **kwargs)

    def on_retry(self, exc_info: Any) -> Any:
        note(self, "retry", type(exc_info.exception).__name__, str(exc_info.exception.exc or ""))
        return super().on_retry(exc_info)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        exc = exc_info.exception
        exc = getattr(exc, "exc", exc) if type(exc).__name__ == "ExceptionWithTraceback" else exc
        note(self, "failure", type(exc).__name__, type(exc_info.traceback).__name__, return_ok)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def acknowledge(self) -> Any:
        note(self, "acknowledge")
        return super().acknowledge()

    def reject(self, requeue: bool = False) -> Any:
        note(self, "reject", requeue)
        return super().reject(requeue)


class Own(app.Task):  # type: ignore[misc]
    abstract = True
    Request = Noted


@app.task(name="requested.add", base=Own)
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="requested.early", base=Own, acks_late=False)
def early() -> str:
    return "done"


@app.task(name="requested.fail", base=Own)
def fail() -> None:
    raise KeyError("no")


@app.task(name="requested.again", base=Own, bind=True, max_retries=1, default_retry_delay=0)
def again(self: Any) -> int:
    if self.request.retries:
        return 7
    raise self.retry(exc=ValueError("again"))


@app.task(name="requested.ignored", base=Own)
def ignored() -> None:
    raise exceptions.Ignore


@app.task(name="requested.rejected", base=Own)
def rejected() -> None:
    raise exceptions.Reject("no", requeue=False)


@app.task(name="requested.slow", base=Own, soft_time_limit=1)
def slow() -> None:
    time.sleep(30)


@app.task(name="requested.caught", base=Own, soft_time_limit=1)
def caught() -> str:
    try:
        time.sleep(30)
    except exceptions.SoftTimeLimitExceeded:
        return "caught"
    return "not caught"


@app.task(name="requested.stuck", base=Own, time_limit=1)
def stuck() -> None:
    time.sleep(30)


@app.task(name="requested.plain")
def plain() -> int:
    return 1
