"""Substring hints of a text term: substrings that every match contains.

In:  values of a term.  Out: Hints with traces; a store searches for them before it parses values, which is
the slow part. Where serializers differ (quotes, escapes, floats) there is no hint.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from qctl.filters.fields import Value, is_exact
from qctl.filters.predicate import Hints, SubstringHint

#: text that JSON and Python write without escapes
_PLAIN = re.compile(r"[A-Za-z0-9_.@:+ -]+")
#: larger integers may be written as 1e+16
_LARGEST = 10**15


def within(key: str, values: Sequence[Value]) -> Hints:
    """Hints for: the text under `key` contains one of these values, in any case."""
    if not all(value.kind != "regex" and value.text.isascii() for value in values):
        return Hints()
    return Hints(traces=(SubstringHint(key, tuple(value.text for value in values), caseless=True),))


def same(key: str, path: Sequence[str], values: Sequence[Value]) -> Hints:
    """Hints for: the value at `path` under `key` equals one of these values."""
    plain = [step for step in path if _PLAIN.fullmatch(step) and not step.isdecimal()]
    found = [SubstringHint(key, (step,)) for step in plain]
    written = [_written(value) for value in values]
    texts = tuple(text for text in written if text is not None)
    if len(texts) == len(values):
        found.append(SubstringHint(key, texts))
        if plain and plain[-1] is path[-1]:
            found.append(SubstringHint(key, _together(path[-1], texts)))
    return Hints(traces=tuple(found))


def _together(name: str, texts: Sequence[str]) -> tuple[str, ...]:
    """A name and its value next to each other, as JSON and Python write a mapping."""
    return tuple(
        f"{quote}{name}{quote}:{gap}{mark}{text}"
        for text in texts
        for quote in "'\""
        for gap in (" ", "")
        for mark in ("", "'", '"')
    )


def _written(value: Value) -> str | None:
    """The value's text if all serializers write it the same way; else None."""
    if not is_exact(value) or not _PLAIN.fullmatch(value.text):
        return None
    try:
        literal = json.loads(value.text) if value.kind == "bare" else value.text
    except ValueError:
        return value.text
    if isinstance(literal, str):
        return literal
    whole = isinstance(literal, int) and not isinstance(literal, bool)
    return str(literal) if whole and 0 < abs(literal) < _LARGEST else None  # 0 may be -0.0
