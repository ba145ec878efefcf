"""Find plug-ins by the name people type: built-in files first, then installed entry points.

In:  a kind ('broker') and a package whose file names are the names.  Out: the registered object.
Nothing is imported until it is asked for, so listing names costs one directory read.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from qcore.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """The plug-ins of one kind.

    kind is the word used in messages; package is the dotted package that holds one file per
    plug-in; entry points of the group `qcore.<kind>` add to them; aliases map other names people
    type (a URL scheme, say) to a file name.
    """

    def __init__(self, kind: str, package: str, aliases: dict[str, str] | None = None) -> None:
        self.kind, self.package, self.aliases = kind, package, dict(aliases or {})
        self._loaded: dict[str, T] = {}

    def register(self, name: str) -> Callable[[Any], Any]:
        """Decorator: the plug-in in this file answers to `name`."""

        def keep(plugin: Any) -> Any:
            self._loaded[name] = plugin
            return plugin

        return keep

    def names(self) -> list[str]:
        """Every name that can be asked for, without importing any of them."""
        return sorted(set(self._files()) | set(self._loaded) | set(self._entry_points()))

    def __contains__(self, name: str) -> bool:
        """Whether get() would find it. Entry points are only looked for when no file has this name."""
        return name in self._loaded or name in self._files() or name in self._entry_points()

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
        if name in self._files():
            importlib.import_module(f"{self.package}.{name}")
            return
        point = self._entry_points().get(name)
        if point is not None:
            self._loaded[name] = point.load()

    def _files(self) -> list[str]:
        package = importlib.import_module(self.package)
        return [
            m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "base" and m.name[0] != "_"
        ]

    def _entry_points(self) -> dict[str, Any]:
        from importlib.metadata import entry_points  # 20 ms, and only needed for names we do not ship

        return {p.name: p for p in entry_points(group=f"qcore.{self.kind}")}
