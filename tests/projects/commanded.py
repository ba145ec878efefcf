"""A project with control commands as Celery's worker takes them; it runs on both workers."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.worker.control import Panel, control_command, inspect_command

app = Celery("commanded", broker=os.environ["BROKER"])
app.conf.update(worker_prefetch_multiplier=1, task_ignore_result=True)


@control_command(args=[("n", int)], signature="[N=1]", default_timeout=2.0)
def increase_prefetch_count(state: Any, n: int = 1) -> Any:
    """Hold more messages."""
    state.consumer.qos.increment_eventually(n)
    return {"ok": f"prefetch count incremented by {n}"}


@inspect_command(alias="prefetch")
def current_prefetch_count(state: Any) -> Any:
    """The number of messages that are held."""
    return {"prefetch_count": state.consumer.qos.value}


@inspect_command(name="whoami", help="Who this is.")
def named(state: Any) -> Any:
    controller = state.consumer.controller
    return [
        state.hostname,
        state.app.main,
        controller.hostname,
        state.consumer.hostname,
        controller.concurrency,
    ]


@inspect_command(visible=False, variadic="words")
def unlisted(state: Any, words: Any = None) -> Any:
    return words


@Panel.register
def old(state: Any, **_: Any) -> Any:
    return "old"


@control_command()
def fails(state: Any, **_: Any) -> Any:
    raise RuntimeError("as it should")
