"""Regular expressions that are compiled when first used: a command uses few of those that it imports."""

from __future__ import annotations

import re
from typing import Any, cast


class _LazyPattern:
    def __init__(self, text: str, flags: int) -> None:
        self._text, self._flags = text, flags

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(self._text, self._flags), name)
        setattr(self, name, found)  # later uses do not come here
        return found


def lazily(text: str, flags: int = 0) -> re.Pattern[str]:
    """The pattern, with the methods of re.Pattern. Its first use raises re.error if it is malformed."""
    return cast("re.Pattern[str]", _LazyPattern(text, flags))
