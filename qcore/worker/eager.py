"""Run a task in the caller: Task.apply() and task_always_eager.

In:  a task and a call.  Out: a result that is ready.  The run is the worker's own (worker/run.py), so
that what passes here passes there; retries happen at once.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from qcore.result import AsyncResult
from qcore.task import Task
from qcore.times import new_id
from qcore.wire import result as result_wire
from qcore.wire import task as task_wire
from qcore.wire.outcome import End, Job
from qcore.worker.run import Tools, run


class EagerResult(AsyncResult):
    """The result of a run that is over."""

    __slots__ = ()

    def forget(self) -> None:
        return None


def apply(task: Task, args: Any, kwargs: dict[str, Any], options: dict[str, Any]) -> AsyncResult:
    """Run `task` here. With task_eager_propagates its exception is raised."""
    app = task.app
    task_id = options.get("task_id") or new_id()
    raw = app.message(task.name, args, kwargs, task_id, {**options, "ignore_result": False}, task).raw
    accept = frozenset(app.conf.accept_content)
    app.tasks  # noqa: B018 (options are filled in)
    while True:
        outcome = run(Job(0, raw), Tools(app, "eager", accept, lambda seconds: nullcontext()))
        if outcome.end != End.RETRY or not outcome.sends:
            break
        raw = outcome.sends[0].raw
    result = EagerResult(task_id, app, task_name=task.name)
    meta = outcome.meta or result_wire.encode(task_id, result_wire.SUCCESS, None, now=outcome.started)
    result._meta = result_wire.decode(meta, task_id)
    if outcome.end == End.SUCCESS:
        for send in outcome.sends:
            found = task_wire.read(send.raw)
            body = task_wire.read_body(found, accept)
            app.task_named(found.task).apply(body.args, body.kwargs, task_id=found.id)
    elif app.conf.task_eager_propagates:
        result.get()
    return result
