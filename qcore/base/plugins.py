"""Find plug-ins by name: built-in ones first, then installed entry points.

In:  a kind ('broker') and a table of built-in names.  Out: the object that the name stands for.
Nothing is imported before it is asked for. An installed package adds plug-ins with entry points of the
groups qcore.brokers, qcore.result_stores, qcore.pools, qcore.services, qcore.control_commands,
qcore.schedulers, qcore.programs and qctl.commands; an entry point's name is the name people type.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

from qcore.errors import ConfigError, UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """The plug-ins of one kind.

    kind is the word used in messages; group is the entry-point group in which installed packages register
    theirs; builtin maps names to `module:attribute`; aliases map other accepted names (a URL scheme,
    say) to one of these.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        builtin: Mapping[str, str] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.kind, self.group = kind, group
        self.builtin, self.aliases = dict(builtin or {}), dict(aliases or {})
        self._loaded: dict[str, T] = {}

    def register(self, name: str, plugin: T) -> None:
        """Make `name` mean `plugin` in this process."""
        self._loaded[name] = plugin

    def names(self) -> list[str]:
        """Every name that can be asked for, without importing any of them."""
        return sorted({*self.builtin, *self._loaded, *entry_points_of(self.group)})

    def __contains__(self, name: str) -> bool:
        """Whether get() would find it. Entry points are looked for when nothing built in has it."""
        return name in self._loaded or name in self.builtin or name in entry_points_of(self.group)

    def get(self, name: str) -> T:
        """The plug-in called `name`; raises UnknownName with near misses, ConfigError when an installed
        one cannot be loaded."""
        wanted = self.aliases.get(name, name)
        if wanted not in self._loaded:
            self._load(wanted)
        try:
            return self._loaded[wanted]
        except KeyError:
            raise UnknownName(self.kind, name, [*self.names(), *self.aliases]) from None

    def _load(self, name: str) -> None:
        if name in self.builtin:
            self._loaded[name] = _object_at(self.builtin[name])
            return
        point = entry_points_of(self.group).get(name)
        if point is not None:
            self._loaded[name] = point.load()


class EntryPoint(NamedTuple):
    """What an installed package adds to a group: `value` is `module` or `module:attribute`."""

    group: str
    name: str
    value: str
    package: str

    def load(self) -> Any:
        """The object. Raises ConfigError naming the package when it cannot be imported."""
        try:
            return _object_at(self.value)
        except Exception as exc:  # code of another package
            offer = f"the package {self.package} offers '{self.name}' ({self.group})"
            raise ConfigError(f"{offer}, and it cannot be loaded: {exc}") from exc


def entry_points_of(group: str) -> dict[str, EntryPoint]:
    """What installed packages add to a group, by name; the first on the path counts.

    The files are read here (`entry_points.txt`, as the entry-point specification of the packaging guide has
    it), since importlib.metadata takes 20 ms and 2 MB to import, which every worker would keep.
    """
    return _entry_points(tuple(sys.path)).get(group, {})


@cache
def _entry_points(path: tuple[str, ...]) -> dict[str, dict[str, EntryPoint]]:
    found: dict[str, dict[str, EntryPoint]] = {}
    seen: set[str] = set()
    for folder in path:
        for package, text in _entry_point_files(folder or "."):
            if package in seen:
                continue
            seen.add(package)
            group = ""
            for line in map(str.strip, text.splitlines()):
                if line.startswith("[") and line.endswith("]"):
                    group = line[1:-1].strip()
                elif "=" in line and not line.startswith(("#", ";")):
                    name, value = (part.strip() for part in line.split("=", 1))
                    point = EntryPoint(group, name, value.partition("[")[0].strip(), package)
                    found.setdefault(group, {}).setdefault(name, point)
    return found


def _entry_point_files(folder: str) -> Iterator[tuple[str, str]]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.name.endswith((".dist-info", ".egg-info")))
    except OSError:
        return  # a zip file, or no folder at all: nothing is installed there
    for name in names:
        path = f"{folder}/{name}/entry_points.txt"
        try:
            with open(path, encoding="utf-8") as file:
                yield name.partition("-")[0].removesuffix(".egg-info"), file.read()
        except OSError:
            continue  # most packages have none
        except UnicodeDecodeError:
            _warn_of_encoding(path)


@cache
def _warn_of_encoding(path: str) -> None:
    """Log a warning, once for each file."""
    import logging  # here, since qctl --help needs none

    logging.getLogger("qcore.plugins").warning(
        "the plug-ins of the package with %s are ignored: the file is not UTF-8; reinstall the package", path
    )


def _object_at(place: str) -> Any:
    """The object at `module:attribute`, or the module."""
    module, _, attributes = place.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in attributes.split(".") if attributes else ():
        found = getattr(found, attribute)
    return found
