"""Settings: one typed table, the source of validation, defaults, environment names and docs.

In:  mappings, modules and environment variables with Celery's lower-case names (or its old upper-case
ones).  Out: a Config whose attributes have the declared types.
Defaults are Celery's, except where one of them would break a guarantee of qcore: `task_acks_late` is
true here, and the broker is the embedded SQLite one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from qcore.errors import ConfigError, UnknownName, keep_secret
from qcore.settings.old_names import new_name
from qcore.settings.table import _CELERY_ONLY, OTHER_PREFIXES, TABLE
from qcore.settings.values import checked


class Config(Mapping[str, Any]):
    """The settings of one app. Attribute access gives the value, the environment's, or the default.

    Later values win: defaults, then update()/config_from_object, then explicit arguments of App.
    An environment variable named in the table wins over the app's own value.
    """

    def __init__(
        self, values: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        object.__setattr__(self, "_values", {})
        variables = os.environ if environ is None else environ
        pinned = {
            setting.name: _noted(
                setting.name, checked(setting, next(text for v in setting.env if (text := variables.get(v))))
            )
            for setting in TABLE.values()
            if any(variables.get(v) for v in setting.env)
        }
        object.__setattr__(self, "_pinned", pinned)
        if values:
            self.update(values)

    _values: dict[str, Any]
    _pinned: dict[str, Any]  # the environment's values when the app was created

    def update(self, *mappings: Mapping[str, Any], **values: Any) -> None:
        """Set several; raises ConfigError naming the invalid setting."""
        for mapping in (*mappings, values):
            refuse_conflicts(mapping)
            for name, value in mapping.items():
                self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        name = canonical(name)
        setting = TABLE.get(name)
        if setting is not None:
            value = _noted(name, checked(setting, value))
        self._values[name] = value

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def override(self, name: str, value: Any) -> None:
        """Set what neither the app nor the environment may change: an option of a command line."""
        name = canonical(name)
        self._pinned[name] = _noted(name, checked(TABLE[name], value))

    def __getitem__(self, name: str) -> Any:
        for values in (self._pinned, self._values):
            if name in values:
                return values[name]
        if name not in TABLE:
            raise UnknownName("setting", name, list(TABLE))
        return TABLE[name].default

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except UnknownName as exc:
            raise AttributeError(str(exc)) from None

    def __iter__(self) -> Iterator[str]:
        return iter({**TABLE, **self._values})

    def __len__(self) -> int:
        return len({**TABLE, **self._values})

    def changed(self) -> dict[str, Any]:
        """The settings that differ from the defaults."""
        return {n: self[n] for n in self if n not in TABLE or self[n] != TABLE[n].default}

    def seconds(self, name: str) -> float | None:
        """A duration setting in seconds; None and 0 stay None."""
        value = self[name]
        return (value.total_seconds() if isinstance(value, timedelta) else value) or None


_URLS = ("broker_url", "broker_read_url", "result_backend")


def _noted(name: str, value: Any) -> Any:
    """`value`; when it is a URL its password is hidden from now on."""
    if name in _URLS and value:
        for url in [value] if isinstance(value, str) else value:
            keep_secret(str(url))
    return value


def canonical(name: str) -> str:
    """The lower-case name of a setting; raises UnknownName with near misses."""
    if name in TABLE:
        return name
    lower = name.lower()
    for candidate in (lower, new_name(name)):
        if candidate in TABLE:
            return candidate
    if lower == "enable_utc" or (any(lower.startswith(p) for p in OTHER_PREFIXES) and not _is_typo(lower)):
        return lower
    raise UnknownName("setting", name, list(TABLE))


def settings_in(source: Any, namespace: str | None = None) -> Mapping[str, Any]:
    """The settings of a mapping, a module or an object. namespace: only names that start with it and '_'.

    A module may contain names that are not settings; a mapping may not, which update() checks.
    """
    values: Mapping[str, Any] = source if isinstance(source, Mapping) else vars(source)
    if namespace:
        head = f"{namespace}_"
        return {n[len(head) :].lower(): v for n, v in values.items() if n.startswith(head)}
    if isinstance(source, Mapping):
        return values
    return {n: v for n, v in values.items() if not callable(v) and _may_be_setting(n)}


def _may_be_setting(name: str) -> bool:
    """Whether a name in a module is a setting. A single word is too likely to mean something else."""
    if name.startswith("_") or "_" not in name.strip("_"):
        return False
    try:
        return bool(canonical(name))
    except UnknownName:
        return False


def refuse_conflicts(values: Mapping[str, Any]) -> None:
    """Raises ConfigError when two names in one source mean the same setting (CELERY_TASK_ALWAYS_EAGER and
    task_always_eager) and have different values."""
    seen: dict[str, str] = {}
    for name in values:
        try:
            setting = canonical(name)
        except UnknownName:
            continue
        other = seen.setdefault(setting, name)
        if other != name and values[other] != values[name]:
            raise ConfigError(
                f"'{other}' and '{name}' are the same setting with different values; keep only '{setting}'"
            )


def _is_typo(name: str) -> bool:
    """Whether a name is so close to a known setting that it can only be a misspelling of it."""
    import difflib

    return name not in _CELERY_ONLY and bool(difflib.get_close_matches(name, TABLE, n=1, cutoff=0.93))


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
