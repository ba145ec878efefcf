"""Mask secrets: passwords in URLs, and values whose name marks them as secret."""

from __future__ import annotations

from collections.abc import Mapping
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


def hide(value: Any, name: str = "") -> Any:
    """`value` with every secret in it masked, at any depth."""
    if value and any(word in name.lower() for word in _WORDS) and not isinstance(value, Mapping | bool):
        return HIDDEN
    if isinstance(value, str):
        return mask_url(value) if "@" in value or "=" in value else value
    if isinstance(value, Mapping):
        return {key: hide(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [hide(inner) for inner in value]
    return value
