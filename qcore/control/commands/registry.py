"""Every control command by name: the built-in ones, installed ones, and those of the app."""

from __future__ import annotations

import importlib
import pkgutil

from qcore.base.plugins import entry_points_of, load
from qcore.control.commands.base import Command, _known
from qcore.errors import UnknownName

_builtin_loaded = False


def commands(kind: str | None = None) -> list[Command]:
    """Every known command, sorted by name."""
    _load_builtin()
    return sorted((c for c in _known.values() if kind in (None, c.kind)), key=lambda c: c.name)


def find(name: str) -> Command:
    """The command called `name` (or its alias); raises UnknownName with near misses."""
    _load_builtin()
    if name in _known:
        return _known[name]
    for candidate in _known.values():
        if candidate.alias == name:
            return candidate
    raise UnknownName("control command", name, list(_known))


def _load_builtin() -> None:
    global _builtin_loaded
    if _builtin_loaded:
        return
    package = importlib.import_module("qcore.control.commands")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name != "base":
            importlib.import_module(f"{package.__name__}.{module.name}")
    # Whatever they load, a function or a module, registers its commands by its decorators.
    for point in entry_points_of("qcore.control_commands").values():
        load(point)
    _builtin_loaded = True
