"""The signals of a run, with Celery's arguments, and the description of an exception that hooks get.

In:  a run and how it ended.  Out: calls of the receivers (qcore/signals.py), in the process of the run.
Callers look first whether the signals that each run sends have receivers: a call costs a run 0.1 us.
"""

from __future__ import annotations

import sys
import time
import traceback as tracebacks
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from qcore.base import provided
from qcore.signals import (
    after_task_publish,
    published,
    task_failure,
    task_internal_error,
    task_postrun,
    task_prerun,
    task_retry,
    task_success,
)

if TYPE_CHECKING:
    from qcore.tasks.request import Request
    from qcore.tasks.task import Task
    from qcore.wire.outcome import Outcome
    from qcore.wire.task import Body, TaskMessage


class Run(Protocol):
    """A run, as far as signals tell of it: execution/run.py."""

    task: Task
    message: TaskMessage
    body: Body
    request: Request | None
    clock: float
    outcome: Outcome
    tools: Any  # RunContext

    def call(self) -> Outcome: ...


class ExceptionInfo:
    """An exception as hooks and receivers get it: `exception`, its class `type`, `traceback` as text and `tb`
    as object; as text it is the traceback. Celery's class of that name has the same attributes."""

    internal = False

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """Packages for Celery ask whether it is an ExceptionInfo of billiard's."""
        billiard = sys.modules.get("billiard.einfo")
        return ExceptionInfo if billiard is None else billiard.ExceptionInfo

    def __init__(self, exception: BaseException, traceback: str | None = None) -> None:
        self.exception, self.type = exception, type(exception)
        self.tb: TracebackType | None = exception.__traceback__
        self._text = traceback

    @property
    def traceback(self) -> str:
        if self._text is None:
            self._text = "".join(tracebacks.format_exception(self.exception))
        return self._text

    @property
    def exc_info(self) -> tuple[Any, BaseException, Any]:
        return self.type, self.exception, self.tb

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ExceptionInfo: {self.exception!r}>"


def traced(run: Run) -> Outcome:
    """Call a run, inside what a package has put around runs (qcore/celery/trace.py), if anything."""
    around = provided.get("around_runs")
    outcome: Outcome = run.call() if around is None else around(run)
    return outcome


def starts(run: Run) -> None:
    args, kwargs, _ = run.body
    task_prerun.send(run.task, task_id=run.message.id, task=run.task, args=args, kwargs=kwargs)


def succeeded(run: Run, value: Any) -> None:
    task_success.send(run.task, result=value, runtime=time.perf_counter() - run.clock)


def failed(run: Run, exc: BaseException, einfo: ExceptionInfo) -> None:
    if task_failure.receivers:
        args, kwargs, _ = run.body
        about = {"task_id": run.message.id, "exception": exc, "args": args, "kwargs": kwargs}
        task_failure.send(run.task, **about, traceback=exc.__traceback__, einfo=einfo)


def broken(run: Run, exc: Exception | None) -> None:
    """exc: what a hook raised after the body of a task, or the publishing of its callbacks; None: nothing."""
    if exc is not None and task_internal_error.receivers and run.request is not None:
        args, kwargs, _ = run.body
        about: dict[str, Any] = {"task_id": run.request.id, "args": args, "kwargs": kwargs}
        about |= {"request": dict(vars(run.request)), "einfo": ExceptionInfo(exc)}
        about |= {"exception": exc, "traceback": exc.__traceback__}
        task_internal_error.send(run.task, **about)


def retried(run: Run, exc: BaseException, einfo: ExceptionInfo) -> None:
    if task_retry.receivers:
        task_retry.send(run.task, request=run.request, reason=exc, einfo=einfo)


def ends(run: Run, state: str, value: Any) -> None:
    """value: what the task returned, or the exception that ended it.

    What follows the run counts as sent, although the worker publishes it with the settlement.
    """
    if after_task_publish.receivers and not run.tools.eager:
        published(run.outcome.sends)
    if task_postrun.receivers:
        args, kwargs, _ = run.body
        about = {"task_id": run.message.id, "task": run.task, "args": args, "kwargs": kwargs}
        task_postrun.send(run.task, **about, retval=value, state=state)
