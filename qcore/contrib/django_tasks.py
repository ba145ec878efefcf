"""A backend for Django's tasks (`django.tasks`, Django 6): `qctl worker` runs what `TASK.enqueue()` sends.

In:  TASKS = {"default": {"BACKEND": "qcore.contrib.django_tasks.QcoreBackend"}}.  Out: messages of one task,
RUN, with the path of Django's task, and a record beside the result of each, from which get_result() makes a
TaskResult. A run's end is read from its result, stored with the acknowledgement (docs/django.md).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import (
    DEFAULT_TASK_QUEUE_NAME,
    TASK_MAX_PRIORITY,
    TASK_MIN_PRIORITY,
    Task,
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultStatus,
)
from django.tasks.exceptions import TaskResultDoesNotExist
from django.tasks.signals import task_enqueued, task_finished, task_started
from django.utils import timezone
from django.utils.json import normalize_json
from django.utils.module_loading import import_string

from qcore import current_app, shared_task
from qcore.errors import BrokerDown
from qcore.tasks import states
from qcore.wire import identity

if TYPE_CHECKING:
    from qcore.app.app import App

log = logging.getLogger("qcore.django")

#: the task that runs those of Django
RUN = "qcore.django.run"
#: the state of a record, which is stored as an intermediate result under RECORD_ID
RECORD, RECORD_ID = "DJANGO", "{}.django"
_TIMES = ("enqueued_at", "started_at", "last_attempted_at")
_LEAST_URGENT = 9


class QcoreBackend(BaseTaskBackend):  # type: ignore[misc] # Django has no types
    """Sends Django's tasks to the workers of an app.

    OPTIONS: `app`, the app as `module:name`; without it the current app of the process, which is the one that
    the project makes. The queue `default` is the app's default queue, others keep their names.
    """

    supports_defer = True
    supports_async_task = True
    supports_priority = True

    @property
    def supports_get_result(self) -> bool:
        """Whether the app stores results."""
        return bool(self.app.results.keeps)

    @property
    def app(self) -> App:
        """The app that OPTIONS names, or the current one."""
        place = self.options.get("app")
        if place is None:
            return current_app()
        found: App = import_string(str(place).replace(":", "."))
        return found

    def enqueue(self, task: Task, args: Sequence[Any], kwargs: dict[str, Any]) -> TaskResult:
        """Publish a call of a task of Django's. Returns when the broker has it.

        Raises InvalidTask, BrokerDown, and TypeError for arguments without a JSON form."""
        self.validate_task(task)
        app, task_id, now = self.app, identity.make(), timezone.now()
        record = {
            "task": task.module_path,
            "args": normalize_json(list(args)),
            "kwargs": normalize_json(dict(kwargs)),
            "backend": self.alias,
            "priority": task.priority,
            "queue_name": task.queue_name,
            "run_after": task.run_after and task.run_after.isoformat(),
            "enqueued_at": now.isoformat(),
        }
        if app.results.keeps:  # first the record: a worker may be faster than the next line
            app.store_state(RECORD_ID.format(task_id), RECORD, record)
        app.send_task(
            RUN,
            (record,),
            task_id=task_id,
            shadow=task.module_path,
            priority=_priority(task.priority, app.broker.name == "kombu"),
            queue=None if task.queue_name == DEFAULT_TASK_QUEUE_NAME else task.queue_name,
            eta=task.run_after and _aware(task.run_after),
        )
        result = _result(task, task_id, record)
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult:
        """The result of a task that any process has enqueued.

        Raises TaskResultDoesNotExist for an unknown id, and for one whose result has expired;
        NotImplementedError where results are not stored."""
        if not self.supports_get_result:
            return super().get_result(result_id)
        app = self.app
        stored, ended = app.results.get([RECORD_ID.format(result_id), result_id])
        if stored is None or stored.status != RECORD:
            raise TaskResultDoesNotExist(result_id)
        record = stored.result
        result = _result(_task(record), result_id, record)
        if ended is not None and ended.is_ready:
            _end(result, app.AsyncResult(result_id), ended.date_done)
        return result


def _aware(at: datetime) -> datetime:
    """A time with its zone; one without is in Django's current zone (USE_TZ is false)."""
    found: datetime = at if timezone.is_aware(at) else timezone.make_aware(at)
    return found


def _priority(priority: int, is_largest_first: bool) -> int:
    """Django's priority (100 is the most urgent, -100 the least) as one from 0 to 9."""
    share = (TASK_MAX_PRIORITY - priority) / (TASK_MAX_PRIORITY - TASK_MIN_PRIORITY)
    found: int = round(share * _LEAST_URGENT)
    return _LEAST_URGENT - found if is_largest_first else found


def _task(record: dict[str, Any]) -> Task:
    """Django's task of a record, with the options of the call. Raises ImportError."""
    run_after = record["run_after"] and datetime.fromisoformat(record["run_after"])
    options = {name: record[name] for name in ("priority", "queue_name", "backend")}
    return import_string(record["task"]).using(run_after=run_after, **options)


def _result(task: Task, task_id: str, record: dict[str, Any]) -> TaskResult:
    """A TaskResult as its record says: ready, or running."""
    times = {name: datetime.fromisoformat(record[name]) if record.get(name) else None for name in _TIMES}
    return TaskResult(
        task=task,
        id=task_id,
        status=TaskResultStatus.RUNNING if record.get("started_at") else TaskResultStatus.READY,
        finished_at=None,
        args=record["args"],
        kwargs=record["kwargs"],
        backend=record["backend"],
        errors=[],
        worker_ids=list(record.get("worker_ids", ())),
        **times,
    )


def _end(result: TaskResult, ended: Any, done_at: str | None) -> None:
    """Put the outcome of the run into a TaskResult."""
    if ended.state == states.SUCCESS:
        _set(result, status=TaskResultStatus.SUCCESSFUL, _return_value=ended.result)
    else:
        exc = ended.result
        module, name = getattr(exc, "exc_module", None), getattr(exc, "exc_type", None)
        if not (module and name):
            module, name = type(exc).__module__, type(exc).__qualname__
        result.errors.append(
            TaskError(exception_class_path=f"{module}.{name}", traceback=ended.traceback or "")
        )
        _set(result, status=TaskResultStatus.FAILED)
    if done_at:
        at = datetime.fromisoformat(done_at)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        _set(result, finished_at=at if settings.USE_TZ else timezone.make_naive(at))


def _set(result: TaskResult, **fields: Any) -> None:
    """Set fields of a frozen TaskResult, as Django's own backends do."""
    for name, value in fields.items():
        object.__setattr__(result, name, value)


@shared_task(name=RUN, bind=True)
def run(self: Any, record: dict[str, Any]) -> Any:
    """Run a task of Django's in a worker; its return value is the result."""
    task, task_id, now = _task(record), self.request.id, timezone.now()
    sender = type(task.get_backend())
    record = _started(self.app, task_id, record, self.request.hostname or "", now)
    result = _result(task, task_id, record)
    task_started.send(sender, task_result=result)
    before = (TaskContext(task_result=result),) if task.takes_context else ()
    try:
        value = normalize_json(task.call(*before, *result.args, **result.kwargs))
    except Exception as exc:
        kind = f"{type(exc).__module__}.{type(exc).__qualname__}"
        result.errors.append(TaskError(exception_class_path=kind, traceback=_traceback(exc)))
        _set(result, status=TaskResultStatus.FAILED, finished_at=timezone.now())
        task_finished.send(sender, task_result=result)
        raise
    _set(result, status=TaskResultStatus.SUCCESSFUL, finished_at=timezone.now(), _return_value=value)
    task_finished.send(sender, task_result=result)
    return value


def _started(app: App, task_id: str, record: dict[str, Any], worker: str, now: datetime) -> dict[str, Any]:
    """The record with one more attempt, which is stored; without the store the task runs too."""
    stored, key, keeps = None, RECORD_ID.format(task_id), app.results.keeps
    try:
        [stored] = app.results.get([key]) if keeps else [None]
    except BrokerDown as exc:
        log.warning("the record of the task %s cannot be read: %s", task_id, exc)
    before = stored.result if stored is not None and stored.status == RECORD else record
    found = {
        **before,
        "started_at": before.get("started_at") or now.isoformat(),
        "last_attempted_at": now.isoformat(),
        "worker_ids": [*before.get("worker_ids", ()), worker],
    }
    try:
        if keeps:
            app.store_state(key, RECORD, found)
    except BrokerDown as exc:
        log.warning("the start of the task %s cannot be stored: %s", task_id, exc)
    return found


def _traceback(exc: BaseException) -> str:
    from traceback import format_exception

    return "".join(format_exception(exc))
