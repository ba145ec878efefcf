"""The registry of control commands: built-in ones, those of installed packages, and those of the app."""

from __future__ import annotations

import importlib

from qcore.base.plugins import entry_points_of
from qcore.control.commands.base import Command, _known
from qcore.errors import UnknownName

BUILTIN = (
    "qcore.control.commands.events",
    "qcore.control.commands.inspect",
    "qcore.control.commands.pool",
    "qcore.control.commands.queues",
    "qcore.control.commands.tasks",
)
#: installed packages name modules in this entry-point group; importing one defines its commands
GROUP = "qcore.control_commands"

_builtin_loaded = False


def commands(kind: str | None = None) -> list[Command]:
    """All commands, or those of one kind (`inspect`, `control`), sorted by name."""
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
    """Import the modules that define commands: qcore's, and those of installed packages."""
    global _builtin_loaded
    if _builtin_loaded:
        return
    for module in BUILTIN:
        importlib.import_module(module)
    # An entry point may name a function or a module; loading it runs the decorators.
    for point in entry_points_of(GROUP).values():
        point.load()
    _builtin_loaded = True
