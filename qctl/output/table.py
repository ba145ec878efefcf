"""Aligned columns for people.

In:  column names and rows of text.  Out: lines.  On a terminal the widest columns are cut so that lines fit;
in a pipe nothing is cut, so that grep and awk get all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from qctl.output.state_styles import paint
from qctl.output.text import cut, pad, shown, width

GAP = "  "


class Cell(NamedTuple):
    """Text with a colour."""

    text: str
    ansi: str = ""


class Column(NamedTuple):
    """A column: its heading, whether it holds numbers, and the field of the items that it shows."""

    name: str
    right: bool = False
    field: str = ""  # if it differs from the heading in lower case
    wide: bool = False  # only with -o wide

    @property
    def key(self) -> str:
        """The name of the displayed field."""
        return self.field or self.name.lower().replace(" ", "_")


def lines(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str | Cell]],
    columns_wide: int | None,
    colour: bool,
    heading: bool = True,
) -> list[str]:
    """The heading and one line for each row; columns_wide: the terminal's width, None in a pipe."""
    cells = [[_cell(c) for c in row] for row in rows]
    wide = [
        max([width(column.name) if heading else 1, *(width(row[i].text) for row in cells)])
        for i, column in enumerate(columns)
    ]
    if columns_wide:
        wide = fit(wide, columns_wide)
    head = paint(_line([Cell(c.name) for c in columns], columns, wide, False), "1", colour)
    return [*([head] if heading else []), *(_line(row, columns, wide, colour) for row in cells)]


def fit(wide: list[int], room: int) -> list[int]:
    """Column widths that fit into `room`: the widest columns shrink first, down to 8."""
    wide = list(wide)
    over = sum(wide) + len(GAP) * (len(wide) - 1) - room
    while over > 0 and max(wide) > 8:
        i = wide.index(max(wide))
        second = max([w for w in wide if w < wide[i]], default=8)
        less = min(over, max(1, wide[i] - max(8, second)))
        wide[i] -= less
        over -= less
    return wide


def _cell(value: str | Cell) -> Cell:
    cell = value if isinstance(value, Cell) else Cell(value)
    return cell._replace(text=shown(cell.text))


def _line(row: Sequence[Cell], columns: Sequence[Column], wide: list[int], colour: bool) -> str:
    parts = []
    for i, (cell, column) in enumerate(zip(row, columns, strict=True)):
        last = i == len(columns) - 1
        text = cut(cell.text, wide[i])
        text = text if last and not column.right else pad(text, wide[i], column.right)
        parts.append(paint(text, cell.ansi, colour))
    return GAP.join(parts).rstrip()
