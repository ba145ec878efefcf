"""A project that writes down every signal: one line for each, with the process that sent it.

SIGNALLED_BY says which package it is written for, SIGNALLED_TO where the lines go.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

PACKAGE = os.environ["SIGNALLED_BY"]
package: Any = importlib.import_module(PACKAGE)
signals: Any = importlib.import_module(f"{PACKAGE}.signals")
exceptions: Any = importlib.import_module("qcore.errors" if PACKAGE == "qcore" else "celery.exceptions")

url = os.environ["SIGNALLED_URL"]
app: Any = (package.App if PACKAGE == "qcore" else package.Celery)("signalled", broker=url, backend=url)
MAIN = os.getpid()

NAMES = [
    *("celeryd_init", "celeryd_after_setup", "import_modules", "worker_init", "worker_ready"),
    *("worker_process_init", "worker_process_shutdown", "worker_shutting_down", "worker_shutdown"),
    *("task_received", "task_prerun", "task_postrun", "task_success", "task_failure", "task_retry"),
    *("task_revoked", "task_unknown", "task_rejected", "after_setup_logger", "after_setup_task_logger"),
    *("before_task_publish", "after_task_publish", "task_sent", "task_internal_error"),
]

#: those that are printed too
PRINTED = ("worker_init", "worker_ready", "task_received", "task_prerun", "worker_shutdown")


def shown(name: str, value: Any) -> str:
    """A value that is the same on both."""
    if name in ("task_id", "state", "sig", "how", "exitcode", "expired", "terminated", "result", "args"):
        return repr(list(value)) if name == "args" else repr(value)
    if name in ("retval", "exception", "reason"):
        return type(value).__name__ if isinstance(value, BaseException) else repr(value)
    if name in ("task", "taskset"):
        return repr(value) if isinstance(value, str | None) else "."
    if name == "einfo":
        return f"{value.type.__name__} {isinstance(value.traceback, str)}" if value is not None else "None"
    if name == "request":
        return str(value["id"] if isinstance(value, dict) else value.id)
    if name == "message":
        return of_message(value)
    return "."


def of_message(message: Any) -> str:
    """What handlers read of a message of kombu's."""
    info = {key: message.delivery_info[key] for key in ("exchange", "routing_key")}
    kinds = message.content_type, message.content_encoding, bool(message.acknowledged)
    properties = {key: message.properties.get(key) for key in ("correlation_id", "priority", "delivery_mode")}
    headers = {key: message.headers.get(key) for key in ("id", "task", "retries", "lang")}
    sizes = len(message.body) > 0, len(message.payload), message.delivery_tag is not None
    return f"{info} {kinds} {properties} {headers} {sorted(message.headers)} {sizes}"


def note(signal: Any, sender: Any, **arguments: Any) -> None:
    name = str(signal.name)
    who = sender if isinstance(sender, str) else getattr(sender, "name", None) or "object"
    if name in ("celeryd_init", "celeryd_after_setup", "worker_process_init", "worker_process_shutdown"):
        who = "node"
    if not isinstance(who, str):
        who = "object"
    if name in ("worker_ready", "task_received", "task_unknown", "task_rejected"):
        parts = [hasattr(sender, part) for part in ("controller", "pool", "timer", "blueprint", "steps")]
        who = f"{sender.hostname} {sender.app.main} {parts}"
    where = "worker" if os.getpid() == MAIN else "child"
    if name in PRINTED:
        print(f"printed {where} {name}", file=sys.stderr if name == "task_prerun" else sys.stdout)
    skipped = ("pid", "runtime", "signal", "signum", "options")
    if name == "task_received":
        arguments["message"] = arguments["request"].message
    words = [f"{k}={shown(k, v)}" for k, v in sorted(arguments.items()) if k not in skipped]
    with open(os.environ["SIGNALLED_TO"], "a") as out:
        out.write(f"{where} {name} {who if 'task' in name or who[0] in 'nw' else ''} {' '.join(words)}\n")


if os.environ.get("SIGNALLED_TO"):
    for each in NAMES:
        getattr(signals, each).connect(note)


@app.task(name="signalled.add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="signalled.fail")
def fail() -> None:
    raise KeyError("no")


@app.task(name="signalled.again", bind=True, max_retries=1, default_retry_delay=0)
def again(self: Any) -> int:
    try:
        raise ValueError("again")
    except ValueError as exc:
        if self.request.retries:
            return 7
        raise self.retry(exc=exc) from None


class Clumsy(app.Task):  # type: ignore[misc]
    def on_failure(self, *args: Any) -> None:
        raise LookupError("on_failure")


@app.task(name="signalled.clumsy", base=Clumsy)
def clumsy() -> None:
    raise KeyError("no")


@app.task(name="signalled.ignored")
def ignored() -> None:
    raise exceptions.Ignore


@app.task(name="signalled.tailed")
def tailed() -> int:
    return 1


class Proud(app.Task):  # type: ignore[misc]
    def on_success(self, *args: Any) -> None:
        raise LookupError("on_success")


@app.task(name="signalled.proud", base=Proud)
def proud() -> int:
    return 3
