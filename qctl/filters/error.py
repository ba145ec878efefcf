"""The error of a filter that cannot be read: it shows the line, and a caret under the character."""

from __future__ import annotations

from qctl import exit_codes
from qctl.output.text import place_in


class FilterError(exit_codes.CommandError):
    """`text` is no filter; position (from 0 to its length) is where, and message says why."""

    def __init__(self, text: str, position: int, message: str) -> None:
        line, column = place_in(text, position)
        whole = f"this is no filter: {message}\n  {line}\n  {' ' * column}^"
        super().__init__(exit_codes.USAGE, whole, "see `qctl help filters`")
        self.text, self.position, self.why = text, position, message
