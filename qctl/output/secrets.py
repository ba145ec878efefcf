"""Mask secrets: passwords in URLs, and values whose name marks them as secret."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from qcore.errors import mask_url

_WORDS = (
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "private_key",
    "sign_key",
    "authorization",
)
HIDDEN = "********"


_PLAIN = (int, float, bool, type(None))


def hide(value: Any, name: str = "") -> Any:
    """`value` with every secret in it masked, at any depth."""
    kind = type(value)
    if name and value and kind is not bool and _is_secret(name) and not isinstance(value, Mapping):
        return HIDDEN
    if kind in _PLAIN:
        return value
    if isinstance(value, str):
        return mask_url(value) if "@" in value or "=" in value else value
    if isinstance(value, Mapping):
        return {key: hide(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [hide(inner) for inner in value]
    return value


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    lower = name.lower()
    return any(word in lower for word in _WORDS)
