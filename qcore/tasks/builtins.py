"""The tasks that every app has, by Celery's names: the parts of workflows that run somewhere.

In:  what canvas.py puts into messages.  Out: their results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcore.tasks.task import Task, make_task

if TYPE_CHECKING:
    from qcore.tasks.task import TaskApp


def _accumulate(*args: Any, **kwargs: Any) -> Any:
    """Its arguments, or the one at `index`: the last task of a group that something follows."""
    index = kwargs.get("index")
    return args[index] if index is not None else args


def _xmap(self: Task, task: dict[str, Any], it: list[Any]) -> list[Any]:
    """The results of a task for each item."""
    function, args, kwargs = self._called(task)
    return [function(item, *args, **kwargs) for item in it]


def _xstarmap(self: Task, task: dict[str, Any], it: list[Any]) -> list[Any]:
    """The results of a task for each tuple of arguments."""
    function, args, kwargs = self._called(task)
    return [function(*items, *args, **kwargs) for items in it]


BUILT_IN = ("celery.accumulate", "celery.map", "celery.starmap")


def add_built_in(app: TaskApp) -> None:
    """Make them tasks of `app`."""
    for name, function, bind in zip(
        BUILT_IN, (_accumulate, _xmap, _xstarmap), (False, True, True), strict=True
    ):
        app.register_task(make_task(app, function, None, {"name": name, "bind": bind, "typing": False}))
