"""Run a task in the calling process: Task.apply() and task_always_eager.

In:  a task and a call.  Out: a result that is ready.  The run is the same as in a worker (execution/run.py);
retries happen at once.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from qcore.base.times import new_id
from qcore.execution import continuations
from qcore.execution.run import RunContext, run
from qcore.tasks.canvas import signature
from qcore.tasks.result import AsyncResult
from qcore.tasks.task import Task
from qcore.wire import result as result_wire
from qcore.wire import task as task_wire
from qcore.wire.outcome import End, Job
from qcore.wire.result import ResultMeta

if TYPE_CHECKING:
    from qcore.tasks.task import TaskApp


#: exceptions that end this process, and are not failures of the task
EXITS = (SystemExit, KeyboardInterrupt, GeneratorExit)


#: the states of runs that ended with Ignore or Reject
_UNSETTLED = {
    End.IGNORED: result_wire.IGNORED,
    End.REJECTED: result_wire.REJECTED,
    End.REQUEUED: result_wire.REJECTED,
}


class EagerResult(AsyncResult):
    """The result of a completed eager run, or of a call that was not sent; it is not in the result store."""

    __slots__ = ()

    def __init__(
        self,
        id: str | None,
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
    ) -> None:
        self.id = id  # type: ignore[assignment]  # None: of a call that was not sent
        self._app, self.parent, self._task_name = None, None, name
        data = result_wire.exception_data(ret_value) if isinstance(ret_value, BaseException) else ret_value
        self._meta = ResultMeta(id or "", state, data, traceback)
        self.ignored = not self._meta.is_ready

    def meta(self) -> ResultMeta:
        return self._meta or ResultMeta(task_id=self.id)

    def ready(self) -> bool:
        return True

    def forget(self) -> None:
        return None


def apply(task: Task, args: Any, kwargs: dict[str, Any], options: dict[str, Any]) -> AsyncResult:
    """Run `task` in this process, and then its continuations, as in Celery: callbacks are published, or run
    in this process with task_always_eager; errbacks of this app run in this process.

    With throw=True (default: task_eager_propagates) the task's exception is raised and no errback is called.
    """
    app = task.app
    task_id = options.get("task_id") or new_id()
    throw = options.get("throw")
    throw = app.conf.task_eager_propagates if throw is None else throw
    options = {**options, "ignore_result": False, "link_error": None if throw else options.get("link_error")}
    raw = app.message(task.name, args, kwargs, task_id, options, task, is_sent=False).raw
    accept = frozenset(app.conf.accept_content)
    app.tasks  # noqa: B018 (options are filled in)
    tools = RunContext(app, "eager", accept, lambda seconds: nullcontext(), eager=True, passes=EXITS)
    while True:
        outcome = run(Job(0, raw), tools)
        if outcome.end != End.RETRY or not outcome.sends:
            break
        raw = outcome.sends[0].raw
    result = EagerResult(task_id, None, result_wire.SUCCESS, name=task.name)
    result._app = app
    meta = outcome.meta or result_wire.encode(task_id, result_wire.SUCCESS, None, now=outcome.started)
    if (end := End(outcome.end)) in _UNSETTLED:
        meta = result_wire.encode(task_id, _UNSETTLED[end], None, now=outcome.started)
        result.ignored = True
    result._meta = result_wire.decode(meta, task_id)
    message = task_wire.read(raw)
    embed = task_wire.read_body(message, accept).embed
    family = {"root_id": message.root_id or task_id, "parent_id": task_id}
    if outcome.end == End.SUCCESS:
        _succeeded(app, embed, result._meta.result, family)
    elif throw:
        result.get()
    elif outcome.end == End.FAILURE:
        _failed(app, embed, task_id, family)
    return result


def _succeeded(app: TaskApp, embed: dict[str, Any], value: Any, family: dict[str, Any]) -> None:
    """Call the callbacks and the next step of the chain."""
    for link in embed.get("callbacks") or ():
        signature(link, app=app).apply_async((value,), **family)
    chain = embed.get("chain")
    if chain:
        rest = {"chain": chain[:-1]} if chain[:-1] else {}
        signature(chain[-1], app=app).apply_async((value,), **family, **rest)


def _failed(app: TaskApp, embed: dict[str, Any], task_id: str, family: dict[str, Any]) -> None:
    """Call the errbacks that take an id; the run has called those that take the exception."""
    for link in embed.get("errbacks") or ():
        sig = signature(link, app=app)
        if continuations.wants_it_all(sig):
            continue
        if sig.task in app.tasks:
            sig.apply((task_id,), **family)
        else:
            sig.apply_async((task_id,), **family)
