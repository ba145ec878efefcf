"""Settings: one typed table, the source of validation, defaults, environment names and docs.

In:  mappings, modules and environment variables with Celery's lower-case names (or its old upper-case
ones).  Out: a Config whose attributes have the declared types.
Defaults are Celery's, except where one of them would break a guarantee of qcore: `task_acks_late` is
true here, and the broker is the embedded SQLite one.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cache, partial
from types import ModuleType
from typing import Any

from qcore.errors import ConfigError, UnknownName, keep_secret
from qcore.settings.celery_defaults import DEFAULTS
from qcore.settings.chain_members import ChainMembers, old_names_in
from qcore.settings.old_names import new_name
from qcore.settings.stores import UNLISTED
from qcore.settings.table import TABLE
from qcore.settings.values import checked

log = logging.getLogger("qcore.settings")


class Config(ChainMembers):
    """The settings of one app. Attribute access gives the value, the environment's, or the default.

    The strongest first: a command line's option or an environment variable of the table; what was set by
    name before the first setting was read (keywords of App among it); config_from_object, in which the last
    source wins; what was set since; add_defaults(); the defaults. Sources are read when a setting is read.
    """

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        after_load: Callable[[], None] | None = None,
        otherwise: Callable[[], Mapping[str, Any] | None] | None = None,
    ) -> None:
        """after_load: called once, when the first setting is read. otherwise: the settings of a Config that
        has no source by then."""
        variables = os.environ if environ is None else environ
        pinned = {
            setting.name: _noted(
                setting.name, checked(setting, next(text for v in setting.env if (text := variables.get(v))))
            )
            for setting in TABLE.values()
            if any(variables.get(v) for v in setting.env)
        }
        own: dict[str, Any] = {
            "_values": {},
            "_first": set(),
            "_fallback": {},
            "_own_defaults": {},
            "_others": {},
            "_sources": [],
            "_read": False,
            "_changes": 0,
            "_observers": [],
            "_prefix": None,
            "_old_names": {},
            "_prepare": None,
        }
        self.__dict__.update(own, _pinned=pinned, _lock=threading.RLock(), _after_load=after_load)
        self.__dict__["_otherwise"] = otherwise
        if values:
            self.update(values)

    _values: dict[str, Any]
    _first: set[str]  # names that were set before a setting was read: no source replaces them
    _fallback: dict[str, Any]  # of add_defaults()
    _own_defaults: dict[str, Any]  # mappings that are defaults: the app may put something into its own
    _others: dict[
        str, Callable[[], Any]
    ]  # names in modules that are no settings: other packages look them up
    _pinned: dict[str, Any]  # the environment's values when the app was created
    _sources: list[Callable[[], Mapping[str, Any]]]  # not read yet
    _read: bool
    _changes: int  # how often a value may have changed
    _observers: list[Callable[..., Any]]  # of bind_to()
    _prefix: str | None
    _old_names: dict[str, str]  # in sources -> the current ones
    _prepare: Callable[[Any], Any] | None
    _lock: threading.RLock
    _after_load: Callable[[], None] | None
    _otherwise: Callable[[], Mapping[str, Any] | None] | None

    # --- sources

    def add_source(self, source: Callable[[], Mapping[str, Any]]) -> None:
        """Have a source read when a setting is read; what it raises is raised there, each time."""
        self._sources.append(source)
        self.__dict__["_otherwise"] = None
        self._drop_kept()

    def add_defaults(self, d: Mapping[str, Any]) -> None:
        """Set what applies where nothing else does, as in Celery."""
        for name, value in d.items():
            name, value = _accepted(name, value)
            self._fallback[name] = value
        self._drop_kept()

    def prepare_with(self, change: Callable[[Any], Any]) -> None:
        """Have a function get the settings of each source, and return those that apply."""
        self.__dict__["_prepare"] = change

    def load(self) -> None:
        """Read the sources that were not read yet. Raises ConfigError, and what their import raises."""
        with self._lock:
            is_first = not self._read
            self.__dict__["_read"] = True
            if self._otherwise is not None:
                otherwise = self._otherwise
                self.add_source(lambda: otherwise() or {})
            if is_first and self._prepare is not None and not self._sources:
                self._sources.append(dict)
            while self._sources:
                values = self._sources[0]()
                if self._prepare is not None:
                    values = self._prepare(values)
                refuse_conflicts(values)
                self._old_names.update(old_names_in(values))
                self._others.update(getattr(values, "others", {}))
                for name, value in values.items():
                    name, value = _accepted(name, value)
                    if name not in self._first:
                        self._values[name] = value
                del self._sources[0]
            self._drop_kept()
        if is_first and self._after_load is not None:
            self._after_load()

    @property
    def is_loaded(self) -> bool:
        """Whether a setting was read, and so every source."""
        return self._read and not self._sources

    # --- set

    def update(self, *mappings: Mapping[str, Any], **values: Any) -> None:
        """Set several; raises ConfigError naming the invalid setting."""
        for mapping in (*mappings, values):
            refuse_conflicts(mapping)
            for name, value in mapping.items():
                self[name] = value
        for callback in self._observers:
            callback(*mappings, **values)

    def __setitem__(self, name: str, value: Any) -> None:
        name, value = _accepted(name, value)
        self._values[name] = value
        if not self._read:
            self._first.add(name)
        self._drop_kept()

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def override(self, name: str, value: Any) -> None:
        """Set what neither the app nor the environment may change: an option of a command line."""
        name = canonical(name)
        self._pinned[name] = _noted(name, checked(TABLE[name], value))
        self._drop_kept()

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value; `default`, which is set, for a name without one. As in Celery."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        """Remove what was set for a name, and return it; `default` or KeyError when nothing was."""
        if self._sources:
            self.load()
        try:
            return self._values.pop(canonical(key), *default)
        finally:
            self._drop_kept()

    def _drop_kept(self) -> None:
        """Drop the values that __getattr__ keeps."""
        with self._lock:
            self.__dict__["_changes"] += 1
            for name in [n for n in self.__dict__ if n[0] != "_"]:
                del self.__dict__[name]

    # --- read: as in Celery, these attributes have what applies where the setting is None

    @property
    def broker_read_url(self) -> Any:
        return self["broker_read_url"] or self.broker_url

    @property
    def broker_write_url(self) -> Any:
        return self["broker_write_url"] or self.broker_url

    @property
    def task_default_exchange(self) -> Any:
        return self.first("task_default_exchange", "task_default_queue")

    @property
    def task_default_routing_key(self) -> Any:
        return self.first("task_default_routing_key", "task_default_queue")

    def __getitem__(self, name: str) -> Any:
        if self._sources or not self._read:
            self.load()
        for values in (self._pinned, self._values, self._fallback):
            if name in values:
                return values[name]
        if name in TABLE:
            return self._default(name, TABLE[name].default)
        try:
            known = canonical(name, keep=False)
        except UnknownName:
            if name in self._others:
                return self._others[name]()
            if name.lower() in self._values:  # names lose their capitals with the namespace
                return self._values[name.lower()]
            raise
        if known == name:
            return self._default(name, DEFAULTS[name])
        return self[known]

    def _default(self, name: str, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return self._own_defaults.setdefault(name, dict(value))

    def __getattr__(self, name: str) -> Any:
        """Called for a name that is not in __dict__: look it up, and keep the value there until a change."""
        if name.startswith("_"):
            raise AttributeError(name)
        changes = self._changes
        try:
            value = self[name]
        except UnknownName as exc:
            raise AttributeError(str(exc)) from None
        with self._lock:
            if changes == self._changes:
                self.__dict__[name] = value
        return value

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except UnknownName:
            return default

    def __contains__(self, name: object) -> bool:
        try:
            self[str(name)]
        except UnknownName:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        if self._sources:
            self.load()
        return iter({**TABLE, **DEFAULTS, **self._fallback, **self._values})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def changed(self) -> dict[str, Any]:
        """The settings that differ from the defaults."""
        usual = {**DEFAULTS, **{name: setting.default for name, setting in TABLE.items()}}
        return {n: self[n] for n in self if n not in usual or self[n] != usual[n]}

    @property
    def changes(self) -> dict[str, Any]:
        """What was set in this process, as in Celery."""
        return dict(self._values)

    @property
    def defaults(self) -> list[Mapping[str, Any]]:
        """The mappings that apply where nothing was set, as in Celery."""
        return [self._fallback, {name: setting.default for name, setting in TABLE.items()}, DEFAULTS]

    def without_defaults(self) -> dict[str, Any]:
        """What was set, by anybody, without the defaults."""
        self.load()
        usual = {
            name: TABLE[name].default if name in TABLE else DEFAULTS[name] for name in self._own_defaults
        }
        own = {name: value for name, value in self._own_defaults.items() if value != usual[name]}
        return {**own, **self._fallback, **self._values, **self._pinned}

    def get_by_parts(self, *parts: str) -> Any:
        """The setting whose name these parts make."""
        return self["_".join(part for part in parts if part)]

    def find_value_for_key(self, name: str, namespace: str = "celery") -> Any:
        """The value of the setting `<namespace>_<name>`, as backends of other packages ask for it."""
        return self[f"{namespace}_{name}"]

    def value_set_for(self, key: str) -> bool:
        """Whether somebody has set it."""
        return canonical(key) in self.without_defaults()

    def first(self, *names: str) -> Any:
        """The first value of these names that is not None."""
        return next((value for name in names if (value := self.get(name)) is not None), None)

    def table(self, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        """The settings that were set, or all of them; censored: secrets masked."""
        values = dict(self) if with_defaults else self.without_defaults()
        return masked(values) if censored else values

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """The same as lines of text."""
        return "\n".join(f"{k}: {v!r}" for k, v in self.table(with_defaults, censored).items())

    def seconds(self, name: str) -> float | None:
        """A duration setting in seconds; None and 0 stay None."""
        value = self[name]
        return (value.total_seconds() if isinstance(value, timedelta) else value) or None

    def result_ttl_s(self, state: str) -> float | None:
        """Seconds that a result of this state is kept; None: for ever."""
        is_apart = state == "FAILURE" and self["result_failure_expires"] is not None
        return self.seconds("result_failure_expires" if is_apart else "result_expires")


def _accepted(name: str, value: Any) -> tuple[str, Any]:
    """The current name of a setting, and its checked value."""
    name = canonical(name)
    setting = TABLE.get(name)
    return name, value if setting is None else _noted(name, checked(setting, value))


_URLS = ("broker_url", "broker_read_url", "result_backend")


def _noted(name: str, value: Any) -> Any:
    """`value`; when it is a URL its password is hidden from now on."""
    if name in _URLS and value:
        for url in [value] if isinstance(value, str) else value:
            keep_secret(str(url))
    return value


def canonical(name: str, keep: bool = True) -> str:
    """The lower-case name of a setting. With `keep` a name that neither we nor Celery know is returned as it
    is, after one warning: another package may read it. Raises UnknownName for a misspelling of a known one,
    and without `keep` for every unknown one."""
    if name in TABLE:
        return name
    lower = name.lower()
    for candidate in (lower, new_name(name)):
        if candidate in TABLE or candidate in DEFAULTS:
            return candidate
    if not keep or is_misspelt(lower):
        raise UnknownName("setting", name, [*TABLE, *DEFAULTS])
    if lower not in UNLISTED:
        _warn_once(name)
    return name


@cache
def _warn_once(name: str) -> None:
    log.warning(
        "the setting '%s' is none of qcore's or Celery's; it is kept for others, without effect", name
    )


def _from_json(text: str) -> Any:
    import json  # few command lines need it

    return json.loads(text)


#: `(json)[1, 2]`: the type that a setting's text on a command line has
_CASTS: Mapping[str, Callable[[str], Any]] = {
    "string": str,
    "int": int,
    "float": float,
    "any": str,
    "bool": lambda text: text.strip().lower() in ("1", "true", "yes", "on", "t", "y"),
    **dict.fromkeys(("json", "dict", "tuple", "list"), _from_json),
}


def assigned(word: str, namespace: str) -> tuple[str, Any]:
    """The setting and the value of a word of a command line, `broker.pool_limit=3`: `.concurrency=3` and
    `_concurrency=3` are of `namespace`; `(list)[1, 2]` names a type. Raises ConfigError and UnknownName."""
    name, equals, text = word.partition("=")
    name = name.lower().replace(".", "_")
    if not equals or not name:
        raise ConfigError(f"'{word}' is no setting; write it like broker.pool_limit=3")
    name = canonical(f"{namespace}{name}" if name[0] == "_" else name, keep=False)
    cast = re.match(r"\((\w+)\)", text)
    if cast is None:
        return name, checked(TABLE[name], text) if name in TABLE else text
    if cast[1] not in _CASTS:
        raise ConfigError(f"'{word}': there is no type '{cast[1]}'; known: {', '.join(_CASTS)}")
    try:
        value = _CASTS[cast[1]](text[cast.end() :])
    except ValueError as exc:
        raise ConfigError(f"'{word}' is no {cast[1]}: {exc}") from exc
    return name, checked(TABLE[name], value) if name in TABLE else value


def settings_in(source: Any, namespace: str | None = None) -> Mapping[str, Any]:
    """The settings of a mapping, a module or an object. namespace: only names that start with it and '_'.

    A module may contain names that are not settings; a mapping may not, which update() checks.
    """
    if isinstance(source, Mapping):
        names: Iterable[str] = source
        value_of = source.__getitem__
    else:
        names = dir(source)  # Django's settings have no __dict__ before they are read
        value_of = partial(getattr, source)
    if namespace:
        head = f"{namespace}_"
        return {n[len(head) :].lower(): value_of(n) for n in names if n.startswith(head)}
    if isinstance(source, Mapping):
        return source
    found = OfModule()
    found.others = {}
    for name in names:
        if _may_be_setting(name):
            if not callable(value := value_of(name)) and not isinstance(value, ModuleType):
                found[name] = value
        elif name[0] != "_":
            found.others[name] = partial(value_of, name)  # a property may warn or raise
    return found


class OfModule(dict[str, Any]):
    """The settings of a module, and its `others`: names that are none, which packages may look up."""

    others: dict[str, Callable[[], Any]]


def _may_be_setting(name: str) -> bool:
    """Whether a name in a module is a setting. A single word is, if it is one of Celery's three, in lower
    case: any other is too likely to mean something else."""
    if name in ("timezone", "imports", "include"):
        return True
    if name.startswith("_") or "_" not in name.strip("_"):
        return False
    try:
        return bool(canonical(name, keep=False))
    except UnknownName:
        return False


def refuse_conflicts(values: Mapping[str, Any]) -> None:
    """Raises ConfigError when two names in one source mean the same setting (CELERY_TASK_ALWAYS_EAGER and
    task_always_eager) and have different values."""
    seen: dict[str, str] = {}
    for name in values:
        try:
            setting = canonical(name, keep=False)
        except UnknownName:
            continue
        other = seen.setdefault(setting, name)
        if other != name and values[other] != values[name]:
            raise ConfigError(
                f"'{other}' and '{name}' are the same setting with different values; keep only '{setting}'"
            )


def is_misspelt(name: str) -> bool:
    """Whether a name is so close to a known setting that it can only be a misspelling of it."""
    import difflib

    return bool(difflib.get_close_matches(name, TABLE, n=1, cutoff=0.93))


def masked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings for display: passwords in URLs and secrets by name hidden."""
    from qcore.errors import mask_url

    def hide(name: str, value: Any) -> Any:
        if any(
            word in name.lower()
            for word in ("password", "secret", "token", "api_key", "_key_password", "sign_key")
        ):
            return "********" if value else value
        if isinstance(value, str):
            return mask_url(value)
        if isinstance(value, Mapping):
            return {str(k): hide(str(k), v) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [hide(name, v) for v in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return mask_url(repr(value))

    return {name: hide(name, value) for name, value in values.items()}
