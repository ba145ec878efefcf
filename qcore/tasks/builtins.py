"""The built-in tasks of every app, with Celery's names; workflows are made of them.

In:  arguments that canvas.py puts into messages.  Out: results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qcore.tasks.task import Task, make_task

if TYPE_CHECKING:
    from qcore.tasks.task import TaskApp


def _accumulate(*args: Any, **kwargs: Any) -> Any:
    """Return its arguments, or the one at `index`. The body of a chord that collects a group's results."""
    index = kwargs.get("index")
    return args[index] if index is not None else args


def _xmap(self: Task, task: dict[str, Any], it: list[Any]) -> list[Any]:
    """Call a task once for each item; returns the list of results."""
    function, args, kwargs = self._called(task)
    return [function(item, *args, **kwargs) for item in it]


def _xstarmap(self: Task, task: dict[str, Any], it: list[Any]) -> list[Any]:
    """Call a task once for each tuple of arguments; returns the list of results."""
    function, args, kwargs = self._called(task)
    return [function(*items, *args, **kwargs) for items in it]


def _backend_cleanup(self: Task) -> None:
    """Delete results older than result_expires, in a store where nothing expires by itself."""
    ttl_s = self.app.conf.seconds("result_expires")
    if ttl_s and self.app.results.expires_by_cleanup:
        self.app.results.cleanup(ttl_s)


BUILT_IN = ("celery.accumulate", "celery.map", "celery.starmap", "celery.backend_cleanup")


def add_built_in(app: TaskApp) -> None:
    """Register the built-in tasks in `app`."""
    functions: tuple[Callable[..., Any], ...] = (_accumulate, _xmap, _xstarmap, _backend_cleanup)
    for name, function in zip(BUILT_IN, functions, strict=True):
        bind = function is not _accumulate
        app.register_task(make_task(app, function, None, {"name": name, "bind": bind, "typing": False}))
