"""The decorators of tasks: a function becomes a task of an app, or a shared one.

In:  a function and the options of a decorator.  Out: a Task (tasks/task.py), or a SharedTask.
After this: app/registry.py registers it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from qcore.base.keywords import check_task, take_out_celerys
from qcore.errors import ConfigError, QcoreError
from qcore.tasks.current_app import current_app, is_set
from qcore.tasks.task import Task, TaskApp
from qcore.tasks.typed import P, V

if TYPE_CHECKING:
    from typing import Concatenate, Unpack

    from qcore.tasks.typed import PlainTaskOptions, PydanticTaskOptions

B = TypeVar("B", bound=Task)


def make_task(app: TaskApp, function: Callable[..., Any], options: dict[str, Any]) -> Task:
    """The Task of a function. Raises ConfigError, or TypeError for an unknown option."""
    base = options.pop("base", None) or Task
    name = options.pop("name", None) or app.gen_task_name(function.__name__, function.__module__)
    bind = bool(options.pop("bind", False))
    options.pop("shared", None)  # the decorator's: App.task()
    models = _models(app, function, name, options)
    take_out_celerys(options)
    check_task(options, base)
    run = function if models is None else models.wrapped()
    fields: dict[str, Any] = {
        "name": name,
        "is_method": bind,
        "run": run if bind else staticmethod(run),
        "__name__": function.__name__,
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__wrapped__": staticmethod(function),
    }
    if models is not None:
        fields["_dump_models"] = staticmethod(models.dump)
    if isinstance(options.get("autoretry_for"), list):
        options["autoretry_for"] = tuple(options["autoretry_for"])
    for option in options:
        if option.startswith("_"):
            raise ConfigError(f"a task has no option '{option}'")
    task: Task = type(function.__name__, (base,), {**fields, **options})()
    task._app = app
    return task


def _models(app: TaskApp, function: Callable[..., Any], name: str, options: dict[str, Any]) -> Any:
    """The models of a task with pydantic=True, whose options are removed; else None."""
    own = {key: options.pop(f"pydantic_{key}", None) for key in ("strict", "context", "dump_kwargs")}
    if not options.pop("pydantic", False):
        return None
    from qcore.tasks.pydantic_models import Models

    about = {"celery_app": app, "celery_task_name": name}
    return Models(function, about, bool(own["strict"]), own["context"], own["dump_kwargs"])


class SharedTask:
    """The return value of @shared_task: a task of the current app."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        take_out_celerys({name: value for name, value in options.items() if name != "shared"})
        check_task(options, options.get("base") or Task)
        self._function, self._options = function, options
        shared.append(self)

    def name_for(self, app: TaskApp) -> str:
        """Its name in `app`; in a script the name begins with app.main."""
        function = self._function
        return self._options.get("name") or app.gen_task_name(function.__name__, function.__module__)

    def make(self, app: TaskApp) -> Task:
        """The Task of `app` for this function."""
        return make_task(app, self._function, {"base": getattr(app, "Task", Task), **self._options})

    def _task(self) -> Task:
        app: TaskApp = current_app()
        return app.task_named(self.name_for(app))

    def __getattr__(self, name: str) -> Any:
        if name in ("_function", "_options"):
            raise AttributeError(name)  # a copy in progress has neither
        try:
            task = self._task()
        except QcoreError as exc:
            raise AttributeError(f"{self!r} has no '{name}': {exc}") from exc
        return getattr(task, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._task()(*args, **kwargs)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # isinstance(shared, Task), as in Celery
        try:
            return type(self._task()) if is_set() else Task
        except QcoreError:
            return Task

    def __repr__(self) -> str:
        name = self._options.get("name") or f"{self._function.__module__}.{self._function.__name__}"
        return f"<shared task {name}>"


#: all shared tasks; an app registers them when its tasks are read
shared: list[SharedTask] = []
#: how often forget_local() removed some of them: registries then read the list from its start
removals = [0]


def forget_local(since: int) -> None:
    """Forget the shared tasks behind the first `since` that were declared within a function: in a test."""
    kept = [one for one in shared[since:] if "<locals>" not in one._function.__qualname__]
    if len(kept) < len(shared) - since:
        shared[since:] = kept
        removals[0] += 1


@overload
def shared_task(function: Callable[P, V], /, **options: Unpack[PlainTaskOptions]) -> Task[P, V]: ...
@overload
def shared_task(*, base: type[B], **options: Any) -> Callable[[Callable[..., Any]], B]: ...
@overload
def shared_task(
    *, pydantic: Literal[True], bind: bool = False, **options: Unpack[PydanticTaskOptions]
) -> Callable[[Callable[..., Any]], Task[..., Any]]: ...
@overload
def shared_task(
    *, bind: Literal[True], pydantic: Literal[False] = False, **options: Unpack[PlainTaskOptions]
) -> Callable[[Callable[Concatenate[Any, P], V]], Task[P, V]]: ...
@overload
def shared_task(
    *,
    bind: Literal[False] = False,
    pydantic: Literal[False] = False,
    **options: Unpack[PlainTaskOptions],
) -> Callable[[Callable[P, V]], Task[P, V]]: ...
def shared_task(*args: Any, **options: Any) -> Any:
    """Decorator: a task of the current app, for libraries without an app of their own;
    shared_task(function, **options) makes it at once."""
    if args and not (len(args) == 1 and callable(args[0])):
        raise TypeError("@shared_task takes keyword options only")
    return SharedTask(args[0], options) if args else lambda function: SharedTask(function, options)
