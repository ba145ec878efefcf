"""Tasks for workflows; with FLOWS_CELERY=1 the same tasks under the same names for real Celery."""

from __future__ import annotations

import os
from typing import Any

from tests.projects.proj import note

app: Any
if os.environ.get("FLOWS_CELERY"):
    from celery import Celery
    from celery.result import allow_join_result as joins

    app = Celery(
        "flows",
        broker=os.environ.get("CELERY_BROKER_URL"),
        backend=os.environ.get("CELERY_RESULT_BACKEND"),
        set_as_current=False,
    )
    app.conf.update(broker_connection_retry_on_startup=True, task_acks_late=True)
else:
    from qcore import App
    from qcore.tasks.joins import allow_join_result as joins

    app = App("flows")


@app.task(name="flows.add")
def add(x: Any, y: Any) -> Any:
    return x + y


@app.task(name="flows.mul")
def mul(x: Any, y: Any) -> Any:
    return x * y


@app.task(name="flows.total")
def total(numbers: list[Any], more: int = 0) -> Any:
    return sum(numbers) + more


@app.task(name="flows.listed")
def listed(values: Any) -> Any:
    return values


@app.task(name="flows.fail")
def fail(*_: Any) -> None:
    raise ValueError("boom")


@app.task(name="flows.write")
def write(*args: Any) -> Any:
    """The last argument is a path; the others are written there."""
    note(args[-1], " ".join(map(str, args[:-1])))
    return args[0]


@app.task(name="flows.note_body", bind=True)
def note_body(self: Any, values: list[Any], path: str) -> None:
    """Write down whether this message was handed out before."""
    note(path, f"again {bool(self.request.redelivered)}")


@app.task(name="flows.failed")
def failed(task_id: str, path: str) -> None:
    """An errback that is sent as a message."""
    note(path, task_id)


@app.task(name="flows.on_error")
def on_error(request: Any, exc: Any, traceback: Any, path: str = "") -> None:
    """An errback that takes more than an id is called in the process of the failed task."""
    note(path, f"{request.id} {exc!r} {'raise ValueError' in str(traceback)}")


@app.task(name="flows.replaced", bind=True)
def replaced(self: Any, x: int) -> Any:
    return self.replace(add.s(x, 1) | mul.s(10))


@app.task(name="flows.note_sent")
def note_sent(path: str) -> None:
    note(path, "sent")


@app.task(name="flows.told")
def told(request: Any, exc: Any, traceback: Any, path: str) -> None:
    """An errback that takes the request and the exception."""
    note(path, f"{request.id} {type(exc).__name__}")


@app.task(name="flows.retried_without_throw", bind=True)
def retried_without_throw(self: Any, how: str, path: str) -> None:
    note(path, f"run {self.request.retries}")
    if self.request.retries < 2:
        error = self.retry(throw=False, countdown=0)
        if how == "raised":
            raise error


@app.task(name="flows.no_more_retries", bind=True, autoretry_for=(ValueError,), default_retry_delay=0)
def no_more_retries(self: Any, path: str) -> None:
    note(path, f"run {self.request.retries}")
    self.retry(exc=ValueError("enough"), max_retries=0)


@app.task(name="flows.returns_a_handle", bind=True)
def returns_a_handle(self: Any) -> Any:
    return self.AsyncResult("abc")


@app.task(name="flows.notes_its_text", bind=True)
def notes_its_text(self: Any, path: str) -> None:
    note(path, f"{self.request.argsrepr} {self.request.kwargsrepr}")
    if not self.request.retries:
        raise self.retry(countdown=0)


@app.task(name="flows.waits", bind=True)
def waits(self: Any, how: str) -> Any:
    """Ask for a result within the task."""
    found = add.delay(1, 1)
    try:
        if how == "allowed":
            with joins():
                return found.get(timeout=30)
        return found.get(timeout=30, disable_sync_subtasks=how != "asked")
    except RuntimeError as exc:
        return type(exc).__name__


class Observed(app.Task):  # type: ignore[misc,name-defined]
    """A base class with every hook about names and replacements."""

    @classmethod
    def on_bound(cls, app: Any) -> None:
        cls.bound_to = app.main

    def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str:
        return f"shadow of {args[0]}"

    def on_replace(self, sig: Any) -> Any:
        note(self.request.args[1], f"replaced by {sig.task}")
        return super().on_replace(sig)


@app.task(name="flows.observed", bind=True, base=Observed)
def observed(self: Any, x: int, path: str) -> Any:
    note(path, f"{self.bound_to} {self.request.shadow}")
    return self.replace(add.s(x, 1))


@app.task(name="flows.parent", bind=True)
def parent(self: Any) -> str:
    add.delay(1, 1)
    self.add_trail(self.AsyncResult("by hand"))
    return "parent"


@app.task(name="flows.without_trail", trail=False)
def without_trail() -> None:
    add.delay(1, 1)


@app.task(name="flows.replaced_by", bind=True)
def replaced_by(self: Any, sig: Any, *_: Any) -> Any:
    return self.replace(app.signature(sig))


@app.task(name="flows.changes_what_follows", bind=True)
def changes_what_follows(self: Any, what: str, path: str, *_: Any) -> str:
    """Change what the request says about the callbacks, or about the rest of the chain."""
    request = self.request
    if what == "no chain":
        request.chain = None
    elif what == "shorter chain":
        request.chain.pop()
    elif what == "other arguments":
        request.chain[-1]["args"] = [path + ".other"]
    elif what == "no callbacks":
        request.callbacks = None
    elif what == "no errbacks":
        request.errbacks = None
        raise ValueError("boom")
    elif what == "retry without chain" and not request.retries:
        request.chain = None
        raise self.retry(countdown=0)
    return what
