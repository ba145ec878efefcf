"""The syntax error of a filter: it shows the line, and a caret under the character."""

from __future__ import annotations

from qctl import exit_codes
from qctl.output.text import place_in


class FilterError(exit_codes.CommandError):
    """`text` is no valid filter; position: index of the error, from 0 to its length; message: the reason."""

    def __init__(self, text: str, position: int, message: str) -> None:
        line, column = place_in(text, position)
        whole = f"this is no filter: {message}\n  {line}\n  {' ' * column}^"
        super().__init__(exit_codes.USAGE, whole, "see `qctl help filters`")
        self.text, self.position, self.why = text, position, message
