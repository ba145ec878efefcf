"""`celery.worker.control`: decorators of control commands that a project defines, with Celery's arguments.

In:  a function of (state, …).  Out: a command of the worker, as those of qcore.inspect_command; its function
gets a State, which has what Celery's has and qcore's worker can give.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from qcore.control.commands.base import Arg, command


class State:
    """The worker as a command of a Celery project sees it: app, hostname, tset; everything of WorkerView."""

    tset = set

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self.app, self.hostname = worker.app, worker.node

    def __getattr__(self, name: str) -> Any:
        if name == "consumer":
            raise AttributeError(
                "a worker of qcore has no consumer object; state.app.control and the methods of state "
                "(queues(), pool_grow(), add_consumer(), …) change the worker"
            )
        return getattr(self._worker, name)


class Panel:
    """The registry of commands: register() as a decorator, with and without options."""

    @classmethod
    def register(cls, *functions: Callable[..., Any], **options: Any) -> Any:
        return cls._register(**options)(*functions) if functions else cls._register(**options)

    @staticmethod
    def _register(
        name: str | None = None,
        alias: str | None = None,
        type: str = "control",
        visible: bool = True,
        default_timeout: float = 1.0,
        help: str | None = None,
        signature: str | None = None,
        args: Sequence[tuple[str, Callable[[str], Any]]] | None = None,
        variadic: str | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """default_timeout has no effect: `qctl` ends when all have replied, at most after -t."""
        classes = (bool, float, int, str)
        converted = {word: kind for word, kind in args or () if kind not in classes}
        words = tuple(Arg(w, str if w in converted else k, required=False) for w, k in args or ())  # type: ignore[arg-type]

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(function)
            def handler(worker: Any, **given: Any) -> Any:
                for word in converted.keys() & given.keys():
                    if isinstance(given[word], str):
                        given[word] = converted[word](given[word])
                return function(State(worker), **given)

            handler.__doc__ = help or function.__doc__
            made = command(
                name or function.__name__,
                type,
                args=words,
                variadic=variadic,
                alias=alias,
                visible=visible,
                signature=signature or "",
            )
            made(handler)
            return function

        return register


def control_command(**kwargs: Any) -> Any:
    """Decorator of a command that changes something."""
    return Panel.register(type="control", **kwargs)


def inspect_command(**kwargs: Any) -> Any:
    """Decorator of a command that only reads."""
    return Panel.register(type="inspect", **kwargs)
