"""Routing: the queue of a call, from the settings. No I/O.

In:  a task name and the `task_routes` setting.  Out: options such as {'queue': 'feeds'}.
Forms, as in Celery: a mapping of names or globs to a queue name or to options, a list of such
mappings or pairs or functions, or one function `(name, args, kwargs, options) -> queue or options`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Any

from qcore.errors import ConfigError

Router = Callable[[str, Any, Any, dict[str, Any]], Any]


class Routes:
    """The compiled `task_routes`. Without router functions, results are cached by task name."""

    def __init__(self, routes: Any) -> None:
        self._steps: list[Router] = []
        self._pure = True
        for entry in _entries(routes):
            self._steps.append(self._compile(entry))
        self._seen: dict[str, dict[str, Any]] = {}

    def route(self, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> dict[str, Any]:
        """The options that the first matching rule gives this call; empty if none matches."""
        if not self._steps:
            return {}
        if self._pure and name in self._seen:
            return self._seen[name]
        found: dict[str, Any] = {}
        for step in self._steps:
            answer = step(name, args, kwargs, options)
            if answer:
                found = {"queue": answer} if isinstance(answer, str) else dict(answer)
                break
        if self._pure:
            self._seen[name] = found
        return found

    def _compile(self, entry: Any) -> Router:
        if isinstance(entry, Mapping):
            return _by_pattern(list(entry.items()))
        if isinstance(entry, tuple | list) and len(entry) == 2 and not callable(entry[1]):
            return _by_pattern([(entry[0], entry[1])])
        if callable(entry):
            self._pure = False
            return lambda name, args, kwargs, options: entry(name, args, kwargs, options, task=None)
        raise ConfigError(f"task_routes has an entry of type {type(entry).__name__}: {entry!r:.60}")


def _entries(routes: Any) -> list[Any]:
    if routes is None:
        return []
    if isinstance(routes, list | tuple):
        return list(routes)
    if isinstance(routes, str):
        from importlib import import_module

        module, _, name = routes.rpartition(".")
        return [getattr(import_module(module), name)]
    return [routes]


def _by_pattern(pairs: list[tuple[Any, Any]]) -> Router:
    exact = {k: v for k, v in pairs if isinstance(k, str) and not set(k) & set("*?[")}
    globs = [
        (k if isinstance(k, re.Pattern) else re.compile(fnmatch.translate(k)), v)
        for k, v in pairs
        if k not in exact
    ]

    def look_up(name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        if name in exact:
            return exact[name]
        return next((v for pattern, v in globs if pattern.match(name)), None)

    return look_up
