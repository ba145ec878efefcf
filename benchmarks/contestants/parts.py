"""A long list in parts, for questions that should not be asked all at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")

AT_ONCE = 2000


def in_parts(items: list[T], size: int = AT_ONCE) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
