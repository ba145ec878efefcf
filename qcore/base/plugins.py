"""Find plug-ins by the name people type: those that are built in first, then installed entry points.

In:  a kind ('broker'), the package that holds the built-in files, their names.  Out: the registered object.
Nothing is imported until it is asked for. A package adds plug-ins of its own with entry points of the
groups qcore.brokers, qcore.result_stores, qcore.pools, qcore.services, qcore.control_commands and
qctl.commands; each entry point's name is the name people type.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from qcore.errors import ConfigError, UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """The plug-ins of one kind.

    kind is the word used in messages; package is the dotted package that holds a file for each of
    `built_in`; entry points of `group` add to them; aliases map other names people type (a URL scheme,
    say) to a file name.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        package: str,
        built_in: tuple[str, ...],
        aliases: dict[str, str] | None = None,
    ) -> None:
        self.kind, self.group, self.package, self.built_in = kind, group, package, built_in
        self.aliases = dict(aliases or {})
        self._loaded: dict[str, T] = {}

    def register(self, name: str) -> Callable[[Any], Any]:
        """Decorator: the plug-in in this file answers to `name`."""

        def keep(plugin: Any) -> Any:
            self._loaded[name] = plugin
            return plugin

        return keep

    def names(self) -> list[str]:
        """Every name that can be asked for, without importing any of them."""
        return sorted({*self.built_in, *self._loaded, *entry_points_of(self.group)})

    def __contains__(self, name: str) -> bool:
        """Whether get() would find it. Entry points are looked for when nothing built in has it."""
        return name in self._loaded or name in self.built_in or name in entry_points_of(self.group)

    def get(self, name: str) -> T:
        """The plug-in called `name`; raises UnknownName with near misses."""
        wanted = self.aliases.get(name, name)
        if wanted not in self._loaded:
            self._load(wanted)
        try:
            return self._loaded[wanted]
        except KeyError:
            raise UnknownName(self.kind, name, [*self.names(), *self.aliases]) from None

    def _load(self, name: str) -> None:
        if name in self.built_in:
            importlib.import_module(f"{self.package}.{name}")
            return
        point = entry_points_of(self.group).get(name)
        if point is not None:
            self._loaded[name] = load(point)


def entry_points_of(group: str) -> dict[str, Any]:
    """What installed packages add to a group, by name."""
    from importlib.metadata import entry_points  # 20 ms, and only needed for names we do not ship

    return {p.name: p for p in entry_points(group=group)}


def load(point: Any) -> Any:
    """The object of an entry point. Raises ConfigError naming its package when it cannot be imported."""
    try:
        return point.load()
    except Exception as exc:  # code of somebody else
        owner = point.dist.name if point.dist is not None else point.value
        raise ConfigError(
            f"the package {owner} offers '{point.name}' ({point.group}), and it cannot be loaded: {exc}"
        ) from exc
