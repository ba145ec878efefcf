"""Tasks with a `Request` class of their own: its methods are called in the worker's process, as in Celery.

In:  what a TaskReporter is told of runs.  Out: calls of on_accepted(), on_timeout(), on_failure(),
acknowledge() and reject(); what they do does not change how a run ends or is settled.
A worker without such a task has a plain reporter. Before this: loop.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from qcore.app.sources import imported
from qcore.errors import (
    ConfigError,
    Ignore,
    Malformed,
    Reject,
    RemoteError,
    Retry,
    TimeLimitExceeded,
    WorkerLostError,
)
from qcore.events.sender import EventSender
from qcore.execution.run_signals import ExceptionInfo
from qcore.tasks.task import Task
from qcore.wire import result as result_wire
from qcore.wire.outcome import End, Outcome
from qcore.wire.result_form import ResultForm
from qcore.worker.in_flight import InFlight
from qcore.worker.services.reporting import TaskReporter
from qcore.worker.services.task_counts import CountingReporter
from qcore.worker.services.task_signals import TaskRequest, TaskSignals

log = logging.getLogger("qcore.worker")

#: the ends of runs about which a request is told that the task failed
_FAILED = (End.FAILURE, End.RETRY, End.IGNORED, End.REJECTED, End.REQUEUED, End.LOST, End.TIME_LIMIT)

#: methods with which Celery's worker does its work; a Request that overrides them changes nothing here
_UNUSED = "cancel execute execute_using_pool maybe_expire revoked send_event terminate".split()


def of_tasks(tasks: Mapping[str, Task]) -> dict[str, type[TaskRequest]]:
    """The request classes of the tasks that have one, by the name of the task. Raises ConfigError for one
    that cannot be loaded, or is no subclass of celery.worker.request.Request as qcore provides it."""
    found = {}
    for name, task in tasks.items():
        kind = getattr(task, "Request", None)
        if isinstance(kind, str):
            try:
                kind = imported(kind)
            except (ImportError, ValueError) as exc:
                raise ConfigError(f"the Request of the task '{name}' cannot be loaded: {exc}") from exc
        if kind is None or kind is TaskRequest:
            continue
        if not (isinstance(kind, type) and issubclass(kind, TaskRequest)):
            raise ConfigError(
                f"the Request of the task '{name}' must derive from celery.worker.request.Request"
            )
        unused = [own for own in _UNUSED if hasattr(kind, own)]
        if unused:
            log.warning("the Request of the task %s has %s, not called here", name, ", ".join(unused))
        found[name] = kind
    return found


class _Requests(TaskReporter):
    """The part of a reporter that calls the requests."""

    watches = True
    kinds: Mapping[str, type[TaskRequest]]
    node: str
    form: ResultForm

    def received(self, held: InFlight) -> None:
        super().received(held)
        kind = self.kinds.get(held.message.task)
        if kind is not None:
            try:
                held.request = kind(held, self.node)
            except Exception:  # of the project's class
                log.exception("the Request of the task %s cannot be made", held.message.task)

    def started(self, held: InFlight, since: float, pid: int) -> None:
        if not held.said_started and held.request is not None:
            accepted = time.monotonic() - (time.time() - since)
            _call(held.request.on_accepted, pid, accepted)
            if held.acked:
                _call(held.request.acknowledge)
        super().started(held, since, pid)

    def reports(self, outcome: Outcome) -> bool:
        return True

    def ended(self, held: InFlight, outcome: Outcome) -> None:
        if held.request is not None and outcome.end != End.MALFORMED:
            self.started(held, outcome.started, outcome.pid)
            self._tell(held.request, held, outcome)
        if super().reports(outcome):
            super().ended(held, outcome)

    def _tell(self, request: TaskRequest, held: InFlight, outcome: Outcome) -> None:
        soft_s = held.message.soft_s or held.task.soft_time_limit
        if soft_s and outcome.runtime_s >= soft_s:
            _call(request.on_timeout, True, soft_s)
        if outcome.end in _FAILED:
            info = ExceptionInfo(self._exception(held, outcome), outcome.traceback or outcome.text)
            _call(request.on_failure, info, True, outcome.end not in (End.LOST, End.TIME_LIMIT))
        elif not held.acked:
            _call(request.acknowledge)
        if outcome.end == End.TIME_LIMIT:
            _call(request.on_timeout, False, held.hard_s)

    def _exception(self, held: InFlight, outcome: Outcome) -> BaseException:
        """The exception of a run, as a client gets it from the result store."""
        end, text = outcome.end, outcome.text
        if end == End.IGNORED:
            return Ignore()
        if end in (End.REJECTED, End.REQUEUED):
            return Reject(text, requeue=end == End.REQUEUED)
        if end == End.TIME_LIMIT:
            return TimeLimitExceeded(held.hard_s)
        if end == End.LOST:
            return WorkerLostError(text)
        found: BaseException = RemoteError(text)
        if outcome.meta is not None:
            try:
                stored = result_wire.decode(outcome.meta, held.message.id, self.form)
                found = result_wire.exception_from(stored.result)
            except Malformed as exc:
                log.debug("the result of %s: %s", held.message.id, exc)
        return Retry(text, found) if end == End.RETRY else found


def _call(method: Callable[..., Any], *args: Any) -> None:
    try:
        method(*args)
    except Exception:  # of the project's class
        log.exception("%s() of a Request raised", getattr(method, "__name__", method))


class _CountingRequests(_Requests, CountingReporter):
    """One that counts too."""


def reporter_with(
    kind: type[TaskReporter], app: Any, events: EventSender, signals: TaskSignals
) -> TaskReporter:
    """A reporter of this kind that calls the requests of the app's tasks. Raises ConfigError."""
    found = (_CountingRequests if issubclass(kind, CountingReporter) else _Requests)(events, signals)
    found.kinds, found.node, found.form = of_tasks(app.tasks), events.node, app.result_form
    return found
