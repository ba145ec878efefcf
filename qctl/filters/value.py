"""A value behind an operator of a filter."""

from __future__ import annotations

from typing import NamedTuple


class Value(NamedTuple):
    """A value as it was typed."""

    text: str
    kind: str  # bare | quoted | regex
    position: int


def is_exact(value: Value) -> bool:
    """Whether it means this very text, and no pattern."""
    return value.kind == "quoted" or (value.kind == "bare" and not ("*" in value.text or "?" in value.text))
