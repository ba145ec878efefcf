"""Objects that stand for what a function returns, which is called once: PromiseProxy and mlazy.

In:  a function and its arguments.  Out: an object that calls it at its first use. Source: the behaviour of
Celery 5.7; a test compares both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kombu.utils.functional import lazy

from qcore.celery.proxies import Proxy

_NONE = object()


class mlazy(lazy):
    """kombu's lazy that keeps the value: evaluate() and a call return the same each time."""

    evaluated = False
    _value: Any = None

    def evaluate(self) -> Any:
        if not self.evaluated:
            evaluate: Any = super().evaluate
            self._value, self.evaluated = evaluate(), True
        return self._value


class PromiseProxy(Proxy):
    """Stands for what a function returned at the first use of the proxy. A function that raises is called
    again at the next use."""

    __slots__ = ("_thing", "_waiting")

    def __init__(
        self,
        local: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        name: str | None = None,
        __doc__: str | None = None,
    ) -> None:
        """The arguments are those of Proxy."""
        super().__init__(local, args, kwargs, name, __doc__)
        object.__setattr__(self, "_thing", _NONE)
        object.__setattr__(self, "_waiting", [])

    def _get_current_object(self) -> Any:
        found = object.__getattribute__(self, "_thing")
        return self.__evaluate__() if found is _NONE else found

    def __then__(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function when the value is there: now, and return what it does, or at the first use."""
        if self.__evaluated__():
            return fun(*args, **kwargs)
        object.__getattribute__(self, "_waiting").append((fun, args, kwargs))
        return None

    def __evaluated__(self) -> bool:
        return object.__getattribute__(self, "_thing") is not _NONE

    def __maybe_evaluate__(self) -> Any:
        return self._get_current_object()

    def __evaluate__(self) -> Any:
        """Call the function, and then those that wait for it. Returns the value."""
        found = object.__getattribute__(self, "_Proxy__find")()
        object.__setattr__(self, "_thing", found)
        waiting = object.__getattribute__(self, "_waiting")
        while waiting:
            fun, args, kwargs = waiting.pop(0)
            fun(*args, **kwargs)
        return found
