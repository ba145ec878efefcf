"""The keys of remote control: their secrets and scopes, and the key that this process signs with.

In:  the settings control_keys, control_sign_key and control_unsigned.  Out: Key objects.
A secret is written literally, as `env:NAME` or as `file:PATH`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from qcore.base.lazy_pattern import lazily
from qcore.control.commands.base import SCOPES
from qcore.errors import ConfigError

if TYPE_CHECKING:
    from qcore.settings.config import Config

UNSIGNED = ("allow", "read", "refuse")
SHORTEST = 16  # characters of a secret
_ID = lazily(r"[A-Za-z0-9_.-]{1,64}\Z")


class Key(msgspec.Struct, frozen=True):
    """scope: the widest scope of the key, one of SCOPES; '' if only the workers know it."""

    id: str
    secret: bytes
    scope: str = ""

    def may(self, scope: str) -> bool:
        return bool(self.scope) and SCOPES.index(scope) <= SCOPES.index(self.scope)

    def __repr__(self) -> str:
        return f"Key({self.id!r}, scope={self.scope!r})"


def known_keys(conf: Config) -> dict[str, Key]:
    """The keys of the setting control_keys, by id; raises ConfigError."""
    return {str(name): _read(str(name), value) for name, value in (conf.control_keys or {}).items()}


def unsigned(conf: Config) -> str:
    """What an unsigned request may do: 'allow' (everything), 'read' or 'refuse'. Raises ConfigError.

    The default is 'allow' without control_keys, since Celery's tools cannot sign, and 'read' with them.
    """
    value = conf.control_unsigned
    if value is None:
        return "read" if conf.control_keys else "allow"
    if value not in UNSIGNED:
        raise ConfigError(f"control_unsigned takes {', '.join(UNSIGNED)}, not '{value}'")
    return str(value)


def signing_key(conf: Config) -> Key | None:
    """The key that signs this process's requests; None: requests are not signed. Raises ConfigError.

    control_sign_key is `id:secret`, `file:PATH` of a file that contains this, or an id of control_keys;
    without it the key of control_keys with the widest scope is used.
    """
    value = conf.control_sign_key
    if not value:
        keys = known_keys(conf)
        return max(keys.values(), key=lambda key: SCOPES.index(key.scope)) if keys else None
    text = _file(value.removeprefix("file:"), "control_sign_key") if value.startswith("file:") else value
    name, colon, secret = text.partition(":")
    if not colon:
        if name not in (conf.control_keys or {}):
            raise ConfigError(
                "control_sign_key is not a key of control_keys; give id:secret, file:PATH or one of its ids"
            )
        return known_keys(conf)[name]
    return Key(_id(name), _secret(secret, f"the control key '{name}'"))


def _read(name: str, value: Any) -> Key:
    if not isinstance(value, Mapping) or not isinstance(value.get("secret"), str):
        raise ConfigError(f"the control key '{name}' takes {{'secret': …, 'scope': …}}")
    scope = value.get("scope", "read")
    if scope not in SCOPES:
        raise ConfigError(
            f"the scope of the control key '{name}' is one of {', '.join(SCOPES)}, not {scope!r:.40}"
        )
    return Key(_id(name), _secret(value["secret"], f"the control key '{name}'"), scope)


def _id(name: str) -> str:
    if not _ID.match(name):
        raise ConfigError(
            f"the id of a control key is made of letters, digits, '_', '.' and '-', not {name!r:.40}"
        )
    return name


def _secret(value: str, whose: str) -> bytes:
    text = value
    if value.startswith("env:"):
        text = os.environ.get(value[4:], "")
        if not text:
            raise ConfigError(f"{whose} refers to the variable {value[4:]}, which is not set")
    elif value.startswith("file:"):
        text = _file(value[5:], whose)
    if len(text) < SHORTEST:
        raise ConfigError(f"the secret of {whose} needs at least {SHORTEST} characters")
    return text.encode()


def _file(path: str, whose: str) -> str:
    try:
        return Path(path).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        words = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise ConfigError(f"{whose} cannot be read from the file {path}: {words}") from None
