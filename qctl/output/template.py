"""`-o template=TEXT`: text with fields of an item in braces.

In:  '{node} is {state}'.  Out: one line for each item.  A field is a name, or names joined by dots for nested
values: no function is called and no attribute is read. '{{' and '}}' are braces; \\t and \\n are a tab
and a line end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcore.base.lazy_pattern import lazily
from qctl import exit_codes

_PIECE = lazily(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|\\[tn\\]|[^{}\\]+|\\")
_NAME = lazily(r"[\w-]+(\.[\w-]+)*")
_TEXT = {"{{": "{", "}}": "}", "\\t": "\t", "\\n": "\n", "\\\\": "\\"}


class Template:
    """A parsed template: literal pieces, and the names of fields."""

    def __init__(self, text: str) -> None:
        """Raises CommandError for an unmatched brace or an invalid field name."""
        self.pieces: list[tuple[str, bool]] = []
        for found in _PIECE.finditer(text):
            piece, field = found[0], found[1]
            if piece in ("{", "}"):
                raise _wrong(text, found.start(), "a brace without its partner; write {{ or }} for a brace")
            if field is None:
                self.pieces.append((_TEXT.get(piece, piece), False))
            elif _NAME.fullmatch(field.strip()):
                self.pieces.append((field.strip(), True))
            else:
                raise _wrong(text, found.start(), "a field is a name, perhaps with dots: {node}")

    @property
    def fields(self) -> list[str]:
        return [piece for piece, is_field in self.pieces if is_field]

    def filled(self, texts: Mapping[str, str]) -> str:
        """The line for one item. texts: field -> its text."""
        return "".join(texts[piece] if is_field else piece for piece, is_field in self.pieces)


def _wrong(text: str, place: int, why: str) -> exit_codes.CommandError:
    return exit_codes.CommandError(exit_codes.USAGE, f"in the template: {why}\n  {text}\n  {' ' * place}^")


def value_at(item: Any, field: str) -> Any:
    """The value of a field; dots descend into mappings, numbers into lists; None when it is missing."""
    if isinstance(item, Mapping) and field in item:
        return item[field]
    for part in field.split("."):
        if isinstance(item, Mapping):
            item = item.get(part)
        elif isinstance(item, list | tuple) and part.isdecimal() and int(part) < len(item):
            item = item[int(part)]
        else:
            return None
    return item
