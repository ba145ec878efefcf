"""Objects that stand for the current app and the current task, as Celery has them."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from qcore.errors import ConfigError
from qcore.tasks.current_app import current_app as get_current_app
from qcore.tasks.current_app import current_or_none, set_current
from qcore.tasks.request import NO_REQUEST, Request, pop, push
from qcore.tasks.request import current_task as get_current_task

__all__ = [
    "Proxy",
    "TaskConsumer",
    "app_or_default",
    "current_app",
    "current_task",
    "disable_trace",
    "enable_trace",
    "establish_connection",
    "get_consumer_set",
    "get_current_app",
    "get_current_task",
    "get_default_logger",
    "pop_current_task",
    "push_current_task",
    "redirect_stdouts_to_logger",
    "send_task",
    "set_default_app",
    "setup_logging_subsystem",
    "tasks",
]


class Proxy:
    """Stands for what a function returns, anew at each use."""

    __slots__ = ("_Proxy__find", "__dict__")

    def __init__(
        self,
        local: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        name: str | None = None,
        __doc__: str | None = None,
    ) -> None:
        """local(*args, **kwargs) returns it; name and __doc__ are accepted for Celery's sake."""
        object.__setattr__(self, "_Proxy__find", lambda: local(*(args or ()), **(kwargs or {})))

    def _get_current_object(self) -> Any:
        return object.__getattribute__(self, "_Proxy__find")()

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._get_current_object())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get_current_object(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._get_current_object(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._get_current_object()(*args, **kwargs)

    def __bool__(self) -> bool:
        return bool(self._get_current_object())

    def __eq__(self, other: object) -> bool:
        return bool(self._get_current_object() == other)

    def __hash__(self) -> int:
        return hash(self._get_current_object())

    def __dir__(self) -> list[str]:
        return dir(self._get_current_object())

    # what Python looks up in the class only

    def __len__(self) -> int:
        return len(self._get_current_object())

    def __getitem__(self, key: Any) -> Any:
        return self._get_current_object()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._get_current_object()[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._get_current_object()[key]

    def __iter__(self) -> Any:
        return iter(self._get_current_object())

    def __contains__(self, value: Any) -> bool:
        return value in self._get_current_object()

    def __or__(self, other: Any) -> Any:
        return self._get_current_object() | other

    def __mul__(self, other: Any) -> Any:
        return self._get_current_object() * other

    def __add__(self, other: Any) -> Any:
        return self._get_current_object() + other

    def __int__(self) -> int:
        return int(self._get_current_object())

    def __float__(self) -> float:
        return float(self._get_current_object())

    def __str__(self) -> str:
        return str(self._get_current_object())

    def __enter__(self) -> Any:
        return self._get_current_object().__enter__()

    def __exit__(self, *exc_info: object) -> Any:
        return self._get_current_object().__exit__(*exc_info)

    def __repr__(self) -> str:
        return repr(self._get_current_object())

    def __reduce__(self) -> Any:
        return self._get_current_object().__reduce__()


_is_traced = False


def enable_trace() -> None:
    """Have app_or_default() print where it is called without an app, and refuse to make one."""
    global _is_traced
    _is_traced = True


def disable_trace() -> None:
    """Undo enable_trace()."""
    global _is_traced
    _is_traced = False


def app_or_default(app: Any = None) -> Any:
    """`app`, or the current one. After enable_trace(): raises ConfigError if there is none."""
    if app is not None:
        return app
    if _is_traced:
        if current_or_none() is None:
            raise ConfigError("app_or_default() was called without an app, and none is the current one")
        print("-- RETURNING TO CURRENT APP --")
        traceback.print_stack()
    return get_current_app()


def push_current_task(obj: Any) -> None:
    """Make a task the current one of this thread or coroutine, until pop_current_task()."""
    push(obj, Request() if obj.request is NO_REQUEST else obj.request)


def pop_current_task() -> Any:
    """End what push_current_task() began. Returns the task; None if there was none."""
    task = get_current_task()
    pop()
    return task


def set_default_app(app: Any) -> None:
    """Make `app` the one that is used without another."""
    set_current(app)


current_app: Any = Proxy(get_current_app)
current_task: Any = Proxy(get_current_task)
tasks: Any = Proxy(lambda: get_current_app().tasks)
send_task: Any = Proxy(lambda: get_current_app().send_task)

# of the modules celery.log and celery.messaging
get_default_logger: Any = Proxy(lambda: get_current_app().log.get_default_logger)
setup_logging_subsystem: Any = Proxy(lambda: get_current_app().log.setup_logging_subsystem)
redirect_stdouts_to_logger: Any = Proxy(lambda: get_current_app().log.redirect_stdouts_to_logger)
TaskConsumer: Any = Proxy(lambda: get_current_app().amqp.TaskConsumer)
get_consumer_set: Any = TaskConsumer
establish_connection: Any = Proxy(lambda: get_current_app().connection)
