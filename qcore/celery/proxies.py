"""Objects that stand for the current app and the current task, as Celery has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qcore.tasks.current_app import current_app as get_current_app
from qcore.tasks.current_app import set_current
from qcore.tasks.request import current_task as get_current_task

__all__ = [
    "Proxy",
    "current_app",
    "current_task",
    "get_current_app",
    "get_current_task",
    "send_task",
    "set_default_app",
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

    def __repr__(self) -> str:
        return repr(self._get_current_object())

    def __reduce__(self) -> Any:
        return self._get_current_object().__reduce__()


def set_default_app(app: Any) -> None:
    """Make `app` the one that is used without another."""
    set_current(app)


current_app: Any = Proxy(get_current_app)
current_task: Any = Proxy(get_current_task)
tasks: Any = Proxy(lambda: get_current_app().tasks)
send_task: Any = Proxy(lambda: get_current_app().send_task)
