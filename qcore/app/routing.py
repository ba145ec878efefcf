"""Routing: the queue of a call, from the settings. No I/O.

In:  a task name and the `task_routes` setting.  Out: options such as {'queue': 'feeds'}.
Forms, as in Celery: a mapping of names, globs or compiled expressions to a queue name or to options; a
function `(name, args, kwargs, options, task=None) -> queue or options`; an object with route_for_task(); the
dotted path of one of these; or a list of such forms, and of lists of pairs.
"""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from qcore.errors import ConfigError, did_you_mean

log = logging.getLogger("qcore.app")

Router = Callable[[str, Any, Any, dict[str, Any], Any], Any]
#: the options of a call that a route can give
EFFECTIVE = (
    *("queue", "exchange", "exchange_type", "routing_key", "priority", "serializer", "compression"),
    *("delivery_mode", "headers", "retry", "retry_policy"),
)


class Routes:
    """The compiled `task_routes`. Without router functions, results are cached by task name."""

    def __init__(self, routes: Any) -> None:
        self._steps: list[Router] = []
        self._pure = True
        for entry in _entries(routes):
            self._steps.append(self._compile(entry))
        self._seen: dict[str, dict[str, Any]] = {}

    @property
    def look_at_arguments(self) -> bool:
        """Whether the options that a call gets may depend on more than its name."""
        return not self._pure

    def route(
        self, name: str, args: Any, kwargs: Any, options: dict[str, Any], task: Any = None
    ) -> dict[str, Any]:
        """The options that the first matching rule gives this call; empty if none matches. task: None for a
        call by name."""
        if not self._steps:
            return {}
        if self._pure and name in self._seen:
            return self._seen[name]
        found: dict[str, Any] = {}
        for step in self._steps:
            answer = step(name, args, kwargs, options, task)
            if answer is not None:  # an empty one ends the search too
                found = {"queue": answer} if isinstance(answer, str) else dict(answer)
                break
        if self._pure:
            self._seen[name] = found
        return found

    def _compile(self, entry: Any) -> Router:
        if isinstance(entry, str):
            entry = _named(entry)
        if isinstance(entry, Mapping):
            return _by_pattern(list(entry.items()))
        if isinstance(entry, tuple | list):
            pairs = [entry] if len(entry) == 2 and isinstance(entry[0], str | re.Pattern) else list(entry)
            if all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
                return _by_pattern(pairs)
        older = getattr(entry, "route_for_task", None)
        if callable(older):
            self._pure = False
            return lambda name, args, kwargs, options, task: older(name, args, kwargs)
        if callable(entry):
            self._pure = False
            return lambda name, args, kwargs, options, task: entry(name, args, kwargs, options, task=task)
        raise ConfigError(f"task_routes has an entry of type {type(entry).__name__}: {entry!r:.60}")


def _entries(routes: Any) -> list[Any]:
    if routes is None:
        return []
    return list(routes) if isinstance(routes, list | tuple) else [routes]


def _named(path: str) -> Any:
    """The router that a dotted path, or module:name, names; of a class with route_for_task an object."""
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ConfigError(f"task_routes names '{path}', which cannot be imported: {exc}") from exc
    return found() if isinstance(found, type) and hasattr(found, "route_for_task") else found


def _by_pattern(pairs: list[Any]) -> Router:
    exact = {k: v for k, v in pairs if isinstance(k, str) and "*" not in k}
    globs = [
        (k if isinstance(k, re.Pattern) else re.compile(fnmatch.translate(k)), v)
        for k, v in pairs
        if isinstance(k, re.Pattern) or "*" in k
    ]
    for _, options in pairs:
        if isinstance(options, Mapping):
            _check(options)

    def look_up(name: str, args: Any, kwargs: Any, options: dict[str, Any], task: Any) -> Any:
        if name in exact:
            return exact[name]
        return next((v for pattern, v in globs if pattern.match(name)), None)

    return look_up


def _check(options: Mapping[str, Any]) -> None:
    """Warn of options that have no effect: Celery reads those of time and result before it looks for a route,
    so a route cannot give them."""
    for name in options:
        if name not in EFFECTIVE:
            near = did_you_mean(str(name), EFFECTIVE)
            log.warning("task_routes gives '%s' to calls, which a route cannot set%s", name, near)
