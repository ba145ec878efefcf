"""Values of settings: type and range checks; text is converted to the setting's type.

In:  a row of the table (table.py) and a value.  Out: the value; or a ConfigError that names the setting.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from qcore.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from qcore.settings.servers import Setting


def checked(setting: Setting, value: Any) -> Any:
    if isinstance(value, str) and str not in setting.types:
        value = _from_text(setting, value)
    fits = isinstance(value, setting.types) and not (
        isinstance(value, bool) and bool not in setting.types and int in setting.types
    )
    if not fits:
        kinds = " or ".join(t.__name__.replace("NoneType", "None") for t in setting.types)
        raise ConfigError(
            f"the setting {setting.name} takes {kinds}, not {type(value).__name__} ({value!r:.60})"
        )
    if isinstance(value, timedelta):
        _refuse_odd_number(setting, value.total_seconds())
    elif isinstance(value, int | float):
        _refuse_odd_number(setting, value)
    elif setting.name == "timezone" and value is not None:
        refuse_unknown_zone(value)
    return value


def _refuse_odd_number(setting: Setting, value: float) -> None:
    """Refuse negative numbers, infinity and NaN. Raises ConfigError."""
    if not 0 <= value < float("inf") and value != setting.default:
        raise ConfigError(
            f"the setting {setting.name} takes a number from 0 on, not {value:g}; its default is "
            f"{setting.default}"
        )


def refuse_queue_kind(conf: Any, kind: str) -> None:
    """Refuse queues of `control` or `event` that are exclusive and durable. Raises ConfigError."""
    if conf[f"{kind}_queue_exclusive"] and conf[f"{kind}_queue_durable"]:
        raise ConfigError(
            f"{kind}_queue_exclusive and {kind}_queue_durable cannot both be true: an exclusive queue ends "
            "with its connection"
        )


def refuse_unknown_zone(name: str) -> None:
    from zoneinfo import ZoneInfo, available_timezones  # rarely needed

    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        if known := available_timezones():  # else this host has no list of them
            near = did_you_mean(name, known) or "; write it like 'Europe/Berlin', or leave it out for UTC"
            raise ConfigError(f"the setting timezone names no zone: '{name:.60}'{near}") from None


_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _from_text(setting: Setting, text: str) -> Any:
    """Text (from a command line or the environment) as the type of the setting."""
    lower = text.strip().lower()
    if type(None) in setting.types and lower in ("", "none"):
        return None
    if bool in setting.types and lower in _TRUE + _FALSE:
        return lower in _TRUE
    for kind in (int, float):
        if kind in setting.types:
            try:
                return kind(text)
            except ValueError:
                continue
    if list in setting.types or tuple in setting.types:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text
