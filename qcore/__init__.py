"""qcore: a task queue with workers, results and remote control, compatible with Celery's wire protocol.

    from qcore import App
    app = App("proj")                       # embedded SQLite; or broker="redis://localhost/0"

    @app.task
    def add(x, y): return x + y

    add.delay(2, 2).get(timeout=5)

The path of a task, in the order to read the code:

    tasks/task.py                  the user's side: delay(), apply_async()
    app/app.py, app/sending.py     a call becomes a message
    wire/task.py                   the format of the message
    brokers/X                      publish, claim, settle, leases
    worker/loop.py                 the worker's loop: claim, admit, hand to the pool, settle
    pools/X                        processes, threads or coroutines that run tasks
    execution/run.py               one run: from the message to the outcome
    results/X                      store the result
    tasks/result.py                the caller's handle of the result
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from qcore.base import provided
from qcore.version import __version__

_WHERE = {
    "App": "qcore.app.app",
    "current_app": "qcore.tasks.current_app",
    "shared_task": "qcore.tasks.decorators",
    "Task": "qcore.tasks.task",
    "current_task": "qcore.tasks.request",
    "Signature": "qcore.tasks.canvas",
    "signature": "qcore.tasks.canvas",
    "chain": "qcore.tasks.canvas",
    "chord": "qcore.tasks.canvas",
    "StampingVisitor": "qcore.tasks.stamping",
    "chunks": "qcore.tasks.map_calls",
    "group": "qcore.tasks.canvas",
    "xmap": "qcore.tasks.map_calls",
    "xstarmap": "qcore.tasks.map_calls",
    "AsyncResult": "qcore.tasks.result",
    "GroupResult": "qcore.tasks.result",
    "ResultSet": "qcore.tasks.result",
    "states": "qcore.tasks.states",
    "control_command": "qcore.control.commands.base",
    "inspect_command": "qcore.control.commands.base",
    "Ignore": "qcore.errors",
    "MaxRetriesExceededError": "qcore.errors",
    "NotRegistered": "qcore.errors",
    "Reject": "qcore.errors",
    "Retry": "qcore.errors",
    "SoftTimeLimitExceeded": "qcore.errors",
    "TaskRevokedError": "qcore.errors",
    "TimeLimitExceeded": "qcore.errors",
    "TimeoutError": "qcore.errors",
    "WorkerLostError": "qcore.errors",
}

__all__ = [*_WHERE, "__version__"]

if TYPE_CHECKING:
    from qcore.app.app import App as App
    from qcore.control.commands.base import control_command as control_command
    from qcore.control.commands.base import inspect_command as inspect_command
    from qcore.tasks.canvas import Signature as Signature
    from qcore.tasks.canvas import chain as chain
    from qcore.tasks.canvas import chord as chord
    from qcore.tasks.canvas import group as group
    from qcore.tasks.canvas import signature as signature
    from qcore.tasks.decorators import shared_task as shared_task
    from qcore.tasks.map_calls import chunks as chunks
    from qcore.tasks.map_calls import xmap as xmap
    from qcore.tasks.map_calls import xstarmap as xstarmap
    from qcore.tasks.result import AsyncResult as AsyncResult
    from qcore.tasks.result import GroupResult as GroupResult
    from qcore.tasks.result import ResultSet as ResultSet
    from qcore.tasks.stamping import StampingVisitor as StampingVisitor
    from qcore.tasks.task import Task as Task
    from qcore.worker.worker import Worker

    def current_app() -> App: ...
    def current_task() -> Task | None: ...


def _default_app() -> App:
    from qcore.app.app import App

    return App("default")


def _worker_class() -> type[Worker]:
    from qcore.worker.worker import Worker

    return Worker


#: the fix-up of every app that was given no others, by Celery's name
BUILTIN_FIXUP = "celery.fixups.django:fixup"


def _fixups(app: App) -> list[Any]:
    """Adapt an app to the framework of its project: Django, or the fix-ups that a Celery app was given."""
    given = getattr(app, "fixups", (BUILTIN_FIXUP,))
    found = []
    for one in given:
        if one == BUILTIN_FIXUP:
            if not os.environ.get("DJANGO_SETTINGS_MODULE"):
                continue  # it does nothing, and its import takes time
            one = "qcore.contrib.django:fixup"
        if isinstance(one, str):
            from qcore.app.sources import imported

            one = imported(one)
        found.append(one(app))
    return found


def _current_app() -> App:
    from qcore.tasks.current_app import current_app

    found: App = current_app()
    return found


def _tracing() -> None:
    from qcore.contrib.opentelemetry import install

    install()


def _celery_module(name: str) -> Any:
    from qcore.celery.installed import celery_module

    return celery_module(name)


def _debugger(frame: Any) -> None:
    from qcore.celery.rdb import set_trace

    set_trace(frame)


provided.update(
    app=_default_app,
    current_app=_current_app,
    worker=_worker_class,
    fixups=_fixups,
    tracing=_tracing,
    celery_module=_celery_module,
    debugger=_debugger,
)


def __getattr__(name: str) -> Any:
    """Import names at their first use: `qctl --help` must not import the engine."""
    import importlib

    if name not in _WHERE:
        raise AttributeError(f"module 'qcore' has no attribute '{name}'")
    module = importlib.import_module(_WHERE[name])
    return module if name == "states" else getattr(module, name)
