"""`celery.worker.control.Panel`: control commands by name, as programs for Celery read and replace them.

In:  names.  Out: the functions of commands, and what is known of them; a change is one of the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, ClassVar, NamedTuple

import msgspec

from qcore.control.commands.base import Command, _known, command, of_user
from qcore.control.commands.registry import commands, find
from qcore.errors import UnknownName

#: seconds that clients wait for replies, where they are not those of all commands
TIMEOUTS = {"ping": 0.2, "objgraph": 60.0}


class Info(NamedTuple):
    """What Celery knows of a command; args: (name, type) of each."""

    alias: str | None
    type: str
    visible: bool
    default_timeout: float
    help: str
    signature: str | None
    args: list[tuple[str, Any]] | None
    variadic: str | None


class _Commands(MutableMapping[str, Any]):
    """The registry as a mapping. With aliases, its values are functions, else descriptions."""

    def __init__(self, with_aliases: bool) -> None:
        self._with_aliases = with_aliases

    def __getitem__(self, name: str) -> Any:
        try:
            found = find(name)
        except UnknownName:
            raise KeyError(name) from None
        if self._with_aliases:
            return found.handler
        if found.name != name:
            raise KeyError(name)
        return _info(found)

    def __setitem__(self, name: str, value: Callable[..., Any]) -> None:
        """Replace the function of a command, or make it the one of a new control command."""
        if name in _known:
            _known[name] = msgspec.structs.replace(_known[name], handler=value)
        else:
            command(name, "control")(value)

    def __delitem__(self, name: str) -> None:
        del _known[name]

    def __iter__(self) -> Iterator[str]:
        for found in commands():
            yield found.name
            if found.alias and self._with_aliases:
                yield found.alias

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _info(found: Command) -> Info:
    args = [(a.name, a.type) for a in found.args] or None
    wait_s = TIMEOUTS.get(found.name, 1.0)
    about = (found.summary, found.signature or None, args, found.variadic)
    return Info(found.alias, found.kind, found.visible, wait_s, *about)


class Panel:
    """Celery's: `@Panel.register` registers a control command, `type="inspect"` one that only reads. data:
    name or alias -> function, which takes the worker and its arguments; meta: name -> Info."""

    data: ClassVar[MutableMapping[str, Callable[..., Any]]] = _Commands(True)
    meta: ClassVar[MutableMapping[str, Info]] = _Commands(False)

    @staticmethod
    def register(*words: Any, type: str = "control", **options: Any) -> Any:
        return of_user(type, words, options)
