"""Addresses of brokers and result stores: validation, and references to addresses stored elsewhere.

In:  a URL, or env:NAME, file:PATH, keyring:NAME.  Out: the URL; or one sentence about its error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from qcore.base.lazy_pattern import lazily
from qctl import exit_codes
from qctl.configuration.directories import others_can_read

KINDS = ("env", "file", "keyring")
_BETWEEN = lazily(r"\s*;\s*(?=[a-z][a-z0-9+.-]*://|$)", re.I)
_MOST = 64 * 1024


def is_reference(text: str) -> bool:
    """Whether the address is a reference: env:, file: or keyring:."""
    return text.partition(":")[0] in KINDS and "://" not in text


def why_bad(text: str) -> str:
    """The error in an address, in words that follow 'the broker'; empty when it is valid."""
    from qcore.brokers.shared.endpoints import split_urls  # not needed for help

    if is_reference(text):
        return "" if text.partition(":")[2] else f"'{text}' has nothing after the colon"
    for url in filter(None, _BETWEEN.split(text)) if text.strip() else [""]:
        if "://" not in url:
            return "has no scheme; write redis://host/0, amqp://host// or sqlite:///path"
        if any(c.isspace() for c in url):
            return "has white space in it"
        try:
            for one in split_urls(url):
                _ = urlsplit(one).port
        except ValueError:
            return "has an invalid port (1 to 65535)"
    return ""


def resolve(text: str, warn: Callable[[str], None] = lambda words: None) -> str:
    """The URL that `text` is or refers to. Raises CommandError if it is missing or invalid."""
    if not is_reference(text):
        return text
    kind, _, name = text.partition(":")
    found = {"env": _from_env, "file": _from_file, "keyring": _from_keyring}[kind](name, warn).strip()
    why = "is empty" if not found else why_bad(found) or ("refers to another" if is_reference(found) else "")
    if why:
        raise exit_codes.CommandError(exit_codes.BAD_CONFIG, f"the address in {text} {why}")
    return found


def _from_env(name: str, warn: Callable[[str], None]) -> str:
    if name not in os.environ:
        raise exit_codes.CommandError(
            exit_codes.BAD_CONFIG, f"the address is env:{name}, and that variable is not set"
        )
    return os.environ[name]


def _from_file(name: str, warn: Callable[[str], None]) -> str:
    path = Path(name).expanduser()
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MOST)
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise exit_codes.CommandError(
            exit_codes.BAD_CONFIG, f"cannot read the address in file:{name}: {why}"
        ) from None
    if others_can_read(path):
        warn(f"warning: others can read {path}, which has an address in it; `chmod 600` it")
    return text


def _from_keyring(name: str, warn: Callable[[str], None]) -> str:
    try:
        import keyring  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise exit_codes.CommandError(
            exit_codes.BAD_CONFIG, f"keyring:{name} needs the package 'keyring', which is not installed"
        ) from None
    found = keyring.get_password("qctl", name)
    if found is None:
        raise exit_codes.CommandError(
            exit_codes.BAD_CONFIG, f"the keyring has no entry named '{name}' for qctl"
        )
    return str(found)
