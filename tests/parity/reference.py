"""The objects of Celery and of qcore that stand for the same thing, in pairs.

In:  the name of a pair, as areas of the inventory have it.  Out: Celery's object, and ours as `import celery`
gives it. Source: the installed Celery 5.7.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import SimpleNamespace
from typing import Any

import celery
import celery.app.task
import celery.backends.base
import celery.canvas
import celery.events.state
import celery.schedules

from qcore.celery.app import Celery
from qcore.celery.views import views

#: modules whose public names are compared, where that is not all of `dir()`
_OF_OTHERS = ("__future__", "typing", "collections.abc")


class View(SimpleNamespace):
    """A module as `import celery` gives it here."""


def view(module: str) -> View:
    """The names of a module of Celery's as they are here."""
    found: dict[str, Any] = {}
    for name, place in views().get(module, {}).items():
        where, _, attribute = place.partition(":")
        source = importlib.import_module(where)
        if name == "*":
            found = {n: getattr(source, n) for n in dir(source) if n[0] != "_"} | found
        else:
            found[name] = getattr(source, attribute)
    for inner in views():
        if inner.rpartition(".")[0] == module:
            found.setdefault(inner.rpartition(".")[2], view(inner))
    return View(**found)


def public_names(module: Any) -> list[str]:
    """The names that a module of Celery's means to be imported: `__all__`, else what it defines itself."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(n for n in listed if n[0] != "_" or n == "__version__")
    return sorted(
        n
        for n, value in vars(module).items()
        if n[0] != "_" and getattr(value, "__module__", None) == module.__name__
    )


def _add(x: int, y: int = 1) -> int:
    return x + y


@cache
def _apps() -> tuple[Any, Any]:
    options: Any = {"set_as_current": False, "broker": "memory://", "backend": "cache+memory://"}
    return celery.Celery("x", **options), Celery("x", **options)


@cache
def _tasks() -> tuple[Any, Any]:
    theirs, ours = (app.task(name="x.add")(_add) for app in _apps())
    return theirs.app.tasks[theirs.name], ours.app.tasks[ours.name]


@cache
def pair(name: str) -> tuple[Any, Any]:
    """Celery's object and ours. A name with a dot and small letters is that of a module of Celery's."""
    if name in _PAIRS:
        return _PAIRS[name]()
    return importlib.import_module(name), view(name)


def _each(make: Any) -> Any:
    """A pair: what `make` gives for each of the tasks."""
    return lambda: tuple(make(task) for task in _tasks())


def _of_app(make: Any) -> Any:
    return lambda: tuple(make(app) for app in _apps())


def _canvas(name: str) -> Any:
    return lambda: (getattr(celery.canvas, name), getattr(view("celery.canvas"), name))


def _schedule(name: str, *args: Any, **kwargs: Any) -> Any:
    def made() -> tuple[Any, Any]:
        kinds = (getattr(celery.schedules, name), getattr(view("celery.schedules"), name))
        return tuple(kind(*args, app=app, **kwargs) for kind, app in zip(kinds, _apps(), strict=True))  # type: ignore[return-value]

    return made


def _flows() -> dict[str, Any]:
    def kind(name: str, make: Any) -> Any:
        def made() -> tuple[Any, Any]:
            classes = getattr(celery.canvas, name), getattr(view("celery.canvas"), name)
            return tuple(make(cls, task) for cls, task in zip(classes, _tasks(), strict=True))  # type: ignore[return-value]

        return made

    return {
        "chain": kind("chain", lambda c, t: c(t.s(1), t.s(2), app=t.app)),
        "group": kind("group", lambda c, t: c(t.s(1), t.s(2), app=t.app)),
        "chord": kind("chord", lambda c, t: c([t.s(1), t.s(2)], t.s(3), app=t.app)),
        "chunks": kind("chunks", lambda c, t: c(t.s(), [(1, 2)], 1, app=t.app)),
        "xmap": kind("xmap", lambda c, t: c(t.s(), [1], app=t.app)),
        "xstarmap": kind("xstarmap", lambda c, t: c(t.s(), [(1,)], app=t.app)),
    }


_PAIRS: dict[str, Any] = {
    "app": lambda: _apps(),
    "app.conf": _of_app(lambda app: app.conf),
    "app.tasks": _of_app(lambda app: app.tasks),
    "app.events": _of_app(lambda app: app.events),
    "app.control": _of_app(lambda app: app.control),
    "app.control.inspect": _of_app(lambda app: app.control.inspect()),
    "app.backend": _of_app(lambda app: app.backend),
    "Task": lambda: _tasks(),
    "Context": lambda: (celery.app.task.Context(), view("celery.app.task").Context()),
    "Signature": _each(lambda task: task.s(1)),
    **_flows(),
    "StampingVisitor": lambda: (_import("celery.canvas", "StampingVisitor"), _ours("celery.canvas")),
    "AsyncResult": _of_app(lambda app: app.AsyncResult("an-id")),
    "ResultSet": _of_app(lambda app: app.ResultSet([app.AsyncResult("an-id")])),
    "GroupResult": _of_app(lambda app: app.GroupResult("an-id", [app.AsyncResult("an-id")])),
    "EagerResult": _each(lambda task: task.apply((1,), task_id="an-id")),
    "State": lambda: (celery.events.state.State(), view("celery.events.state").State()),
    "BaseSchedule": _schedule("BaseSchedule"),
    "schedule": _schedule("schedule", 10),
    "crontab": _schedule("crontab", "5"),
    "solar": _schedule("solar", "sunset", 1, 2),
}
for _name in ("Task", "Worker"):
    _PAIRS[f"events.{_name}"] = lambda name=_name: (
        getattr(celery.events.state, name)("an-id"),
        getattr(view("celery.events.state"), name)("an-id"),
    )


def _import(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _ours(module: str) -> Any:
    return view(module).StampingVisitor
