"""The part of an app that declares tasks: the decorator, and the tasks by name.

In:  a function and the options of the decorator.  Out: a Task (tasks/task.py), registered.
Before this: tasks/decorators.py makes a task.  After this: app/registry.py.

The overloads are for type checkers. With base= the task has the type of that class, since a type cannot have
both the methods of a class and the parameters of a function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from qcore.app.registry import TaskRegistry
from qcore.app.sources import imported
from qcore.errors import ConfigError
from qcore.tasks.decorators import SharedTask, make_task
from qcore.tasks.task import Task as BaseTask
from qcore.tasks.typed import P, V

if TYPE_CHECKING:
    from typing import Concatenate, Unpack

    from qcore.tasks.typed import PlainTaskOptions, PydanticTaskOptions

B = TypeVar("B", bound=BaseTask)


class DeclaredTasks:
    """`@app.task`, `app.Task`, `app.tasks`."""

    main: str | None
    strict_typing: bool
    _tasks: TaskRegistry
    #: the base class of the tasks, or its dotted name; a subclass may set it
    task_cls: str | type[BaseTask] = BaseTask

    @cached_property
    def Task(self) -> type[BaseTask]:
        """The base class of this app's tasks: task_cls, bound to the app. It can be replaced."""
        kind = self.task_cls
        if isinstance(kind, str):
            kind = self._named_class(kind)
        if not (isinstance(kind, type) and issubclass(kind, BaseTask)):
            raise ConfigError(f"task_cls is {kind!r:.80}; it takes a subclass of Task, or its dotted name")
        own = {"_app": self, "abstract": True, "typing": kind.typing and self.strict_typing}
        return type(kind.__name__, (kind,), {**own, "__module__": kind.__module__, "__doc__": kind.__doc__})

    @staticmethod
    def _named_class(name: str) -> Any:
        """The class that a dotted name means."""
        return imported(name)

    @overload
    def task(self, function: Callable[P, V], /, **options: Unpack[PlainTaskOptions]) -> BaseTask[P, V]: ...
    @overload
    def task(self, *, filter: Callable[[Any], V], **options: Any) -> Callable[[Callable[..., Any]], V]: ...
    @overload
    def task(self, *, base: type[B], **options: Any) -> Callable[[Callable[..., Any]], B]: ...
    @overload
    def task(
        self, *, pydantic: Literal[True], bind: bool = False, **options: Unpack[PydanticTaskOptions]
    ) -> Callable[[Callable[..., Any]], BaseTask[..., Any]]: ...
    @overload
    def task(
        self, *, bind: Literal[True], pydantic: Literal[False] = False, **options: Unpack[PlainTaskOptions]
    ) -> Callable[[Callable[Concatenate[Any, P], V]], BaseTask[P, V]]: ...
    @overload
    def task(
        self,
        *,
        bind: Literal[False] = False,
        pydantic: Literal[False] = False,
        **options: Unpack[PlainTaskOptions],
    ) -> Callable[[Callable[P, V]], BaseTask[P, V]]: ...
    def task(self, *args: Any, **options: Any) -> Any:
        """Decorator: make a function a task of this app; task(function, **options) does so at once. The
        options are attributes of Task, and `filter` (a function that gets the task and returns what the
        decorator does), `pydantic` with `pydantic_…` (tasks/pydantic_models.py), `shared` (other apps have
        the task too)."""
        app: Any = self
        if args and not (len(args) == 1 and callable(args[0])):
            raise TypeError("@app.task takes keyword options only")
        change, shared = options.pop("filter", None), options.pop("shared", False)

        def decorate(function: Callable[..., Any]) -> Any:
            if shared:
                SharedTask(function, dict(options))
            made = self._tasks.add(make_task(app, function, {"base": self.Task, **options}))
            return made if change is None else change(made)

        return decorate(*args) if args else decorate

    def gen_task_name(self, name: str, module: str) -> str:
        """The name of a task that has none: `module.name`; in a script the app's name replaces the module.
        A subclass may override it."""
        return f"{self.main if module == '__main__' and self.main else module}.{name}"

    def register_task(self, task: BaseTask | type[BaseTask]) -> BaseTask:
        """Register a task that is an instance or a class. Returns the instance."""
        instance = task() if isinstance(task, type) else task
        if not instance.name:
            kind = type(instance)
            instance.name = self.gen_task_name(kind.__name__, kind.__module__)
        return self._tasks.add(instance)

    @property
    def tasks(self) -> TaskRegistry:
        """All tasks by name, with the options that follow from the settings."""
        return self._tasks.complete()

    def task_named(self, name: str) -> BaseTask:
        """The task called `name`; raises NotRegistered with near misses."""
        return self._tasks.named(name)
