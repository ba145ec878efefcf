"""What Celery's settings can do as a chain of mappings: the changes of a process first, then the defaults.

In:  a Config.  Out: its changes and defaults one by one, copies, options by name. Rarely used; config.py has
what every process needs. Source: the behaviour of Celery 5.7; a test runs the same lines on both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from qcore.settings.celery_defaults import DEFAULTS
from qcore.settings.old_names import new_name
from qcore.settings.table import TABLE

#: the parts of names before a `_` that Celery calls namespaces, in its order
NAMESPACES = (
    "beat broker cache cassandra s3 azureblockblob gcs control couchbase arangodb mongodb cosmosdbsql event "
    "redis result elasticsearch security database task worker"
).split()
#: names without a namespace
_SINGLE = ("accept_content", "result_accept_content", "enable_utc", "imports", "include", "timezone")


class Option(NamedTuple):
    """The type of a setting, as text, and its default here."""

    type: str
    default: Any

    def __repr__(self) -> str:
        return f"<Option: type->{self.type} default->{self.default!r}>"


class FoundOption(NamedTuple):
    """What find_option() returns; type: an Option, or those of a whole namespace by key."""

    namespace: str | None
    key: str
    type: Any


class ChainMembers(Mapping[str, Any]):
    """The part of Config that this file is about."""

    if TYPE_CHECKING:  # Config's
        _values: dict[str, Any]
        _first: set[str]
        _fallback: dict[str, Any]
        _observers: list[Callable[..., Any]]
        _prefix: str | None
        _old_names: dict[str, str]
        load: Callable[[], None]
        _drop_kept: Callable[[], None]
        pop: Callable[..., Any]

        @property
        def defaults(self) -> list[Mapping[str, Any]]: ...

    #: Celery's function for keys; there is none
    key_t = None

    @property
    def maps(self) -> list[Mapping[str, Any]]:
        """What was set in this process, then the mappings that apply where nothing was."""
        return [dict(self._values), *self.defaults]

    @property
    def prefix(self) -> str | None:
        """The namespace of the app with a `_` behind it; None without one."""
        return self._prefix.rstrip("_") + "_" if self._prefix else self._prefix

    def prefixed(self, namespace: str | None) -> None:
        """Record the namespace of the app."""
        self.__dict__["_prefix"] = namespace

    def finalize(self) -> Self:
        """Read the sources that were not read yet. Raises as load()."""
        self.load()
        return self

    def clear(self) -> None:
        """Forget what was set; the defaults and the environment apply."""
        self._values.clear()
        self._first.clear()
        self._drop_kept()

    def copy(self) -> Self:
        """The same settings, apart from these."""
        self.load()
        made = type(self)()
        made.swap_with(self)
        made.__dict__.update(_values=dict(self._values), _first=set(self._first), _observers=[])
        return made

    __copy__ = copy

    def swap_with(self, other: Any) -> None:
        """Take over what another Config has: the values and the defaults are shared from now on."""
        other.load()
        self.load()
        names = (
            "_values",
            "_first",
            "_fallback",
            "_own_defaults",
            "_others",
            "_pinned",
            "_prefix",
            "_old_names",
        )
        self.__dict__.update({name: other.__dict__[name] for name in names})
        self._drop_kept()

    @classmethod
    def fromkeys(cls, iterable: Iterable[str], *value: Any) -> Self:
        """Settings with these names, all with the same value (None)."""
        return cls(dict.fromkeys(iterable, *value))  # type: ignore[call-arg]  # Config's

    def popitem(self) -> tuple[str, Any]:
        """Remove the first setting. Raises KeyError unless it was set in this process, as in Celery."""
        name = next(iter(self))
        return name, self.pop(name)

    def iterkeys(self) -> Iterator[str]:
        return iter(self)

    def itervalues(self) -> Iterator[Any]:
        return (self[name] for name in self)

    def iteritems(self) -> Iterator[tuple[str, Any]]:
        return ((name, self[name]) for name in self)

    def bind_to(self, callback: Callable[..., Any]) -> None:
        """Have each update() call a function with its arguments afterwards."""
        self._observers.append(callback)

    def find_option(self, name: str, namespace: str = "") -> FoundOption:
        """The setting `<namespace>_<name>`; else the first one of any namespace with that name; else the one
        whose whole name it is. Raises KeyError."""
        key, wanted = name.lower(), namespace.lower()
        known = {**TABLE, **DEFAULTS}
        if wanted in NAMESPACES and f"{wanted}_{key}" in known:
            return FoundOption(wanted, key, _option(f"{wanted}_{key}"))
        if key in _SINGLE:
            return FoundOption(None, key, _option(key))
        if key in NAMESPACES:
            names = [one for one in known if one.startswith(f"{key}_") and one not in _SINGLE]
            return FoundOption(None, key, {one.removeprefix(f"{key}_"): _option(one) for one in names})
        for space in NAMESPACES:
            if f"{space}_{key}" in known and f"{space}_{key}" not in _SINGLE:
                return FoundOption(space, key, _option(f"{space}_{key}"))
        if key not in known:
            raise KeyError(key)
        return FoundOption(None, key, _option(key))

    def maybe_warn_deprecated_settings(self) -> bool:
        """Warn of each old name (CELERY_ALWAYS_EAGER) in the sources. Returns whether there was one."""
        self.load()
        for old, new in self._old_names.items():
            warnings.warn(f"the setting {old} is now called {new}", DeprecationWarning, stacklevel=2)
        return bool(self._old_names)


def old_names_in(names: Iterable[str]) -> dict[str, str]:
    """Those of the names that are from before Celery 4 -> the current ones."""
    found = {name: new_name(name) for name in names if name.isupper() and name.lower() not in TABLE}
    return {old: new for old, new in found.items() if new in TABLE or new in DEFAULTS}


def _option(name: str) -> Option:
    setting = TABLE.get(name)
    if setting is None:
        return Option("string" if DEFAULTS[name] is None else type(DEFAULTS[name]).__name__, DEFAULTS[name])
    kinds = [kind.__name__ for kind in setting.types if kind is not type(None)]
    kind = kinds[0] if len(kinds) == 1 else "any"
    return Option("string" if kind == "str" else kind, setting.default)
