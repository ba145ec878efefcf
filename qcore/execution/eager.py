"""Run a task in the calling process: Task.apply() and task_always_eager.

In:  a task and a call.  Out: a result that is ready.  The run is the same as in a worker (execution/run.py);
retries happen at once.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from qcore.base.times import new_id
from qcore.errors import TaskRevokedError
from qcore.execution import continuations
from qcore.execution.retry_options import arguments
from qcore.execution.run import Run, RunContext
from qcore.tasks.canvas import signature
from qcore.tasks.result import AsyncResult
from qcore.tasks.task import Task
from qcore.wire import result as result_wire
from qcore.wire import task as task_wire
from qcore.wire.outcome import End, Job, Send
from qcore.wire.reprs import short_repr
from qcore.wire.result import ResultMeta, exception_from

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
    """The result of a completed eager run, or of a call that was not sent; it is not in the result store. The
    value, and the exception of a failed run, are the objects themselves."""

    __slots__ = ("failure",)

    def __init__(
        self,
        id: str | None,
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
    ) -> None:
        self.id = id  # type: ignore[assignment]  # None: of a call that was not sent
        self._app, self.parent, self._task_name, self._then = None, None, name, None
        self.failure = ret_value if isinstance(ret_value, BaseException) else None
        self._meta = ResultMeta(id or "", state, ret_value, traceback)
        self.ignored = not self._meta.is_ready

    @property
    def app(self) -> Any:
        """None, like its backend: it is of the process that made it."""
        return None

    @property
    def backend(self) -> Any:
        return None

    def exists(self) -> bool:
        return False

    def meta(self) -> ResultMeta:
        return self._meta or ResultMeta(task_id=self.id)

    @property
    def name(self) -> str | None:
        return self._task_name

    @property
    def supports_native_join(self) -> bool:
        """It is in no store."""
        return False

    def ready(self) -> bool:
        return True

    def forget(self) -> None:
        return None

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """Make its state REVOKED and its value a TaskRevokedError, as in Celery; nothing is sent."""
        self.failure = TaskRevokedError("revoked")
        self._meta = ResultMeta(self.id or "", result_wire.REVOKED, self.failure)

    def _error(self, meta: ResultMeta) -> BaseException:
        return self.failure if self.failure is not None else exception_from(meta.result)

    _thrown = _error

    def _may_wait(self) -> None:
        return None  # it does not wait


class EagerRun(Run):
    """A run in the caller's process. What the task gets, returns and raises are the objects themselves; the
    message has no arguments."""

    __slots__ = ("again", "stored")

    again: tuple[Any, Any]  # the arguments of the next attempt
    stored: tuple[str, Any, str | None] | None  # state, value or exception, traceback

    def __init__(self, job: Job, tools: RunContext, args: Any, kwargs: dict[str, Any]) -> None:
        super().__init__(job, tools)
        self.stored, self.again = None, (args, kwargs)
        if self.request is not None:
            self.body = self.body._replace(args=list(args), kwargs=dict(kwargs))
            self.args = self.body.args
            self.request.update(args=self.body.args, kwargs=self.body.kwargs)

    def _meta(self, state: str, value: Any, traceback: str | None = None) -> bytes:
        self.stored = state, value, traceback
        return b""

    def _next_attempt(self, sig: dict[str, Any], due: float, eta: str, now: float) -> Send:
        body = self.body
        self.again = arguments(self.task, sig.get("args"), sig.get("kwargs"), body)
        self.body = body._replace(args=[], kwargs={})
        try:
            return super()._next_attempt({**sig, "args": None, "kwargs": None}, due, eta, now)
        finally:
            self.body = body


def apply(task: Task, args: Any, kwargs: dict[str, Any], options: dict[str, Any]) -> AsyncResult:
    """Run `task` in this process, and then its continuations, as in Celery: callbacks are published, or run
    in this process with task_always_eager; errbacks of this app run in this process.

    With throw=True (default: task_eager_propagates) the task's exception is raised and no errback is called.
    With store_eager_result (task_store_eager_result) the result is stored too.
    """
    app = task.app
    task_id = options.get("task_id") or new_id()
    throw = options.get("throw")
    throw = app.conf.task_eager_propagates if throw is None else throw
    shown = {"argsrepr": short_repr(tuple(args)), "kwargsrepr": short_repr(kwargs)}
    own = {"ignore_result": False, "link_error": None if throw else options.get("link_error")}
    raw = app.message(task.name, (), {}, task_id, {**shown, **options, **own}, task, is_sent=False).raw
    accept = frozenset(app.conf.accept_content)
    app.tasks  # noqa: B018 (options are filled in)
    tools = RunContext(app, "eager", accept, lambda seconds: nullcontext(), eager=True, passes=EXITS)
    while True:
        one = EagerRun(Job(0, raw), tools, args, kwargs)
        outcome = one.call()
        if outcome.end != End.RETRY or not outcome.sends:
            break
        raw, (args, kwargs) = outcome.sends[0].raw, one.again
    state, value, traceback = one.stored or (result_wire.SUCCESS, None, None)
    if (end := End(outcome.end)) in _UNSETTLED:
        state, value, traceback = _UNSETTLED[end], None, None
    result = EagerResult(task_id, value, state, traceback, task.name)
    result._app = app
    children = [child.as_tuple() for child in (one.request.children if one.request is not None else ())]
    result._meta = ResultMeta(task_id, state, value, traceback, children)
    if task.store_eager_result:
        told = value if result.failure is None else result_wire.exception_data(result.failure)
        app.store_state(task_id, state, told, traceback=traceback, children=children)
    message = task_wire.read(raw, accept)
    embed = task_wire.read_body(message, accept).embed
    family = {"root_id": message.root_id or task_id, "parent_id": task_id}
    if outcome.end == End.SUCCESS:
        _succeeded(app, embed, value, family)
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
