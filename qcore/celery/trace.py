"""`celery.app.trace`, for packages that replace build_tracer() to put something around each run, as Sentry.

In:  a run, in a process in which a package has imported `celery.app.trace`.  Out: its outcome. When
build_tracer() was replaced, what it builds for a task is called around each run of that task, as in Celery.
Imported only by such a package; importing it registers around_runs() with qcore/base.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.base import provided
from qcore.signals import worker_process_shutdown
from qcore.tasks.task import Task

if TYPE_CHECKING:
    from qcore.execution.run import Run
    from qcore.wire.outcome import Outcome

log = logging.getLogger("qcore.celery")
#: the run that a tracer is called for
_pending: ContextVar[Run | None] = ContextVar("pending", default=None)
#: its soft time limit
_soft_s: ContextVar[float | None] = ContextVar("soft_s", default=None)


class trace_ok_t(NamedTuple):
    """What a tracer returns."""

    retval: Any
    info: Any
    runtime: float
    retstr: str


def build_tracer(name: str, task: Any, *args: Any, **options: Any) -> Any:
    """A function (id, args, kwargs, request) that runs `task`. The options of Celery's have no meaning."""

    def trace_task(uuid: str, args: Any, kwargs: Any, request: Any = None) -> trace_ok_t:
        run = _pending.get()
        if run is None:
            raise RuntimeError(f"the tracer of {name} was called outside of a run; call the task")
        _pending.set(None)
        began = time.perf_counter()
        outcome = run.call()
        return trace_ok_t(run.end[1], None, time.perf_counter() - began, outcome.text)

    return trace_task


def task_has_custom(task: Any, attr: str) -> type | None:
    """The class that defines `attr` for a task; None when it is Task's own."""
    for kind in type(task).__mro__:
        if attr in vars(kind):
            replaced = getattr(vars(kind)[attr], "__module__", "") != Task.__module__
            return kind if kind is not Task or replaced else None
    return None


def _completing(run: Callable[..., Any]) -> Callable[..., Any]:
    """The body of a coroutine task as a function: what is around it sees how the coroutine ends."""
    from qcore.execution.coroutines import complete

    def body(*args: Any, **kwargs: Any) -> Any:
        return complete(run(*args, **kwargs), _soft_s.get())

    return body


def around_runs(run: Run) -> Outcome:
    """Call a run inside the tracer of its task, if build_tracer() was replaced."""
    build = _replaced()
    if build is None or run.request is None:
        return run.call()
    task = run.task
    token = _pending.set(run)
    _soft_s.set(run.job.soft_s)
    try:
        tracer = vars(task).get("__trace__") or _tracer(run, build)
        tracer(run.message.id, run.body.args, run.body.kwargs, vars(run.request))
    except run.tools.passes:
        raise
    except Exception:
        log.exception("what a package has put around the runs of %s raised", task.name)
    try:
        return run.outcome if _pending.get() is not run else run.call()
    finally:
        _pending.reset(token)


def _tracer(run: Run, build: Any) -> Any:
    """What is around the runs of a task; a worker keeps it."""
    task = run.task
    if task.is_async and not run.tools.eager:
        vars(task)["run"] = _completing(task.run)
    tracer = build(task.name, task, app=task.app)
    if not run.tools.eager:
        vars(task)["__trace__"] = tracer
    return tracer


def _replaced() -> Any:
    """What a package has put in the place of build_tracer(); None: it is ours or, in a process that has
    imported Celery, Celery's."""
    build = sys.modules["celery.app.trace"].build_tracer
    return None if build is build_tracer or _author(build) == "celery.app.trace" else build


def _author(function: Any) -> str:
    """The module that wrote a function; __module__ is a copy of the original's after functools.wraps()."""
    return str(getattr(function, "__globals__", {}).get("__name__", ""))


class _Ends(Exception):
    """Ends the loop of a process of billiard's as soon as it begins."""


class _Ending:
    """Stands for a process of billiard's pool, the base of Celery's, that ends."""

    def __getattr__(self, name: str) -> Any:
        raise _Ends(name)


def _flush(**about: Any) -> None:
    """Do what a package has put around the loop of billiard's processes, at its end: send what is left."""
    pool = sys.modules.get("billiard.pool")
    if pool is not None and _author(pool.Worker.workloop) != "billiard.pool":
        try:
            pool.Worker.workloop(_Ending())
        except _Ends:
            pass  # the expected end: it has passed through what is around the loop


def warn_of_idle_patches(pool: str) -> None:
    """Log what a package has replaced without effect here."""
    messaging = sys.modules.get("kombu.messaging")
    publish = getattr(getattr(messaging, "Producer", None), "publish", None)
    if publish is not None and _author(publish) != "kombu.messaging":
        words = (
            "%s has replaced kombu's Producer.publish(), which has no effect: tasks are not published with it"
        )
        log.warning(words, _author(publish))
    build = _replaced()
    if pool == "asyncio" and build is not None:
        words = "%s has replaced build_tracer(), which has no effect on coroutines in the asyncio pool"
        log.warning(words, _author(build))


worker_process_shutdown.connect(_flush)
provided.update(around_runs=around_runs, warn_of_idle_patches=warn_of_idle_patches)
