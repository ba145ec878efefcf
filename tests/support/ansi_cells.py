"""The cells of a kept picture: its text with the colours that a terminal shows.

In:  text with escape sequences of colours (SGR).  Out: rows of cells; the share of those that are blank.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from qctl.output.text import width

_PART = re.compile(r"\x1b\[([0-9;]*)m|([^\x1b])")


class Cell(NamedTuple):
    """One cell: its character, the colours of ink and ground as #rrggbb ('': the terminal's own)."""

    char: str = " "
    ink: str = ""
    ground: str = ""
    reverse: bool = False


def cells_of(picture: str, columns: int, rows: int) -> list[list[Cell]]:
    """A character of two cells is followed by an empty one; what is not written is a space."""
    made = []
    for line in picture.splitlines()[:rows]:
        row: list[Cell] = []
        ink = ground = ""
        reverse = False
        for codes, char in _PART.findall(line):
            if char:
                row += [Cell(char, ink, ground, reverse), Cell("", ink, ground, reverse)][: width(char)]
                continue
            numbers = [int(code or 0) for code in codes.split(";")]
            while numbers:
                number = numbers.pop(0)
                if number == 0:
                    ink, ground, reverse = "", "", False
                elif number == 7:
                    reverse = True
                elif number in (38, 48):
                    colour = "#{:02x}{:02x}{:02x}".format(*numbers[1:4])
                    del numbers[:4]
                    ink, ground = (colour, ground) if number == 38 else (ink, colour)
        made.append(row + [Cell()] * (columns - len(row)))
    return made + [[Cell()] * columns for _ in range(rows - len(made))]


def blank_share(picture: Sequence[Sequence[Cell]], own_ground: str) -> float:
    """The share of cells that show nothing: no character, and no colour of their own behind it. A gap of one
    cell between two words is no blank."""
    blank = total = 0
    for row in picture:
        total += len(row)
        for number, cell in enumerate(row):
            beside = row[max(number - 1, 0)].char.strip() and row[min(number + 1, len(row) - 1)].char.strip()
            shows = cell.char != " " or cell.ground not in ("", own_ground) or cell.reverse
            blank += not (shows or beside)
    return blank / total
