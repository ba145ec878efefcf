"""The effective value of each setting, and its source.

In:  the command line, the environment, the project's file, the context, the user's defaults.
Out: the effective values, and the overridden ones below them.  Before this: session.py.

A context ranks where it is named: by --context just below the options, by QCTL_CONTEXT just below the
environment; one chosen earlier (`qctl ctx use`) ranks below the project's file. A context that neither an
option nor the environment names is ignored when the effective broker differs from its own, since its app,
class and read-only flag belong to its own fleet. read_only does not follow the ranks: any source may set it,
and only the command line and the environment can unset it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qctl import exit_codes
from qctl.configuration import contexts, project, tables
from qctl.configuration.contexts import Context
from qctl.configuration.directories import config_dir

ENVIRONMENT = {
    "context": ("QCTL_CONTEXT",),
    "broker": ("QCTL_BROKER_URL", "CELERY_BROKER_URL"),
    "result_backend": ("QCTL_RESULT_BACKEND", "CELERY_RESULT_BACKEND"),
    "app": ("QCTL_APP", "CELERY_APP"),
    "output": ("QCTL_OUTPUT",),
    "timeout": ("QCTL_TIMEOUT",),
    "read_only": ("QCTL_READ_ONLY",),
}
BUILT_IN: dict[str, Any] = {"output": "table", "broker": "sqlite://", "read_only": False}
KEYS = (*ENVIRONMENT, "class", "colour", "queue")
OPTIONS = {
    "broker": "-b",
    "app": "-A",
    "output": "-o",
    "timeout": "-t",
    "result_backend": "--result-backend",
    "read_only": "--read-only or --read-write",
    "context": "--context",
}


class Place(NamedTuple):
    """A source of values: its printed name, and its values."""

    name: str
    values: Mapping[str, Any]
    binding: bool = False  # the command line or the environment


class Layers:
    """All sources, the strongest first; and the effective context."""

    def __init__(self, places: list[Place] | None = None, context: Context | None = None) -> None:
        self.places, self.context = [] if places is None else places, context

    def sources_of(self, key: str) -> list[tuple[str, Any]]:
        """(source, value) of every source that sets `key`; the first one is effective."""
        found = [(p, p.values[key]) for p in self.places if p.values.get(key) is not None]
        if key == "read_only":
            # Below the environment, read_only = false does not override true.
            found.sort(key=lambda pair: (not pair[0].binding, not pair[1]))
        return [(place.name, value) for place, value in found]

    def value(self, key: str) -> Any:
        """The effective value; None when no source sets it."""
        return next((value for _, value in self.sources_of(key)), None)

    def source(self, key: str) -> str:
        return next((name for name, _ in self.sources_of(key)), "")


def gather(given: Mapping[str, Any], start: Path, warn: Callable[[str], None]) -> Layers:
    """Read every source. Raises CommandError for an error in a file, or for an unknown context."""
    flags = Place("command line", given, True)
    env = Place("environment", _environment(), True)
    found = project.load(start, warn)
    ours = Place(str(found[0]), found[1]) if found else None
    user_file = config_dir() / "config.toml"
    user = None
    if user_file.exists():
        user = Place(str(user_file), tables.check(user_file, tables.read(user_file), tables.DEFAULTS))
    built_in = Place("built in", BUILT_IN)
    places = [p for p in (flags, env, ours, user, built_in) if p is not None]

    before = len(places)
    chosen = _context(places, warn)
    if chosen is None:
        return Layers(places)
    context, rank = chosen
    named = _place(context)
    places.insert(before - 1 - (user is not None) if rank is None else rank + 1, named)
    layers = Layers(places, context)
    explicit = rank is not None and places[rank].binding
    own = context.values.get("broker")
    if not explicit and own is not None and layers.value("broker") != own:
        layers.places.remove(named)
        layers.context = None
    return layers


def _context(places: list[Place], warn: Callable[[str], None]) -> tuple[Context, int | None] | None:
    """The context, and the index of the source that names it; None: it was chosen earlier."""
    for rank, place in enumerate(places):
        name = place.values.get("context")
        if name == "":  # an empty QCTL_CONTEXT: no context
            return None
        if name is not None:
            return contexts.named(contexts.load(warn), str(name), place.name), rank
    name, _ = contexts.chosen()
    if not name:
        return None
    return contexts.named(contexts.load(warn), name, "chosen with `qctl ctx use`"), None


def _place(context: Context) -> Place:
    values = {**context.values}
    if context.read_only:
        values["read_only"] = True
    return Place(f"context '{context.name}'", values)


def _environment() -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, names in ENVIRONMENT.items():
        text = next((os.environ[n] for n in names if os.environ.get(n)), None)
        if text is not None:
            values[key] = _truth(text, names[0]) if key == "read_only" else text
    if os.environ.get("QCTL_CONTEXT") == "":
        values["context"] = ""
    return values


def _truth(text: str, name: str) -> bool:
    lower = text.strip().lower()
    if lower in ("1", "true", "yes", "on"):
        return True
    if lower in ("0", "false", "no", "off"):
        return False
    raise exit_codes.CommandError(exit_codes.BAD_CONFIG, f"{name} is 1 or 0, not '{text}'")
