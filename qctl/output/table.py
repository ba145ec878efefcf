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
    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    texts = [_shown([v if type(v) is str else v[0] for v in column]) for column in values]
    measures = [len if "".join(column_texts).isascii() else width for column_texts in texts]
    needed = [max(map(measure, found), default=0) for measure, found in zip(measures, texts, strict=True)]
    wide = [max(width(c.name) if heading else 1, most) for c, most in zip(columns, needed, strict=True)]
    if columns_wide:
        wide = fit(wide, columns_wide)
    places = []
    for i, column in enumerate(columns):
        cells = wide[i] if column.right or i < len(columns) - 1 else 0
        is_painted = colour and any(type(value) is not str for value in values[i])
        if needed[i] <= wide[i] and measures[i] is not width and not is_painted:
            # Ten times as fast, which counts for lists of thousands.
            places.append(f"%{'' if column.right else '-'}{cells}s" if cells else "%s")
            continue
        places.append("%s")
        texts[i] = [pad(cut(text, wide[i]), cells, column.right) for text in texts[i]]
        if is_painted:
            texts[i] = [
                text if type(value) is str else paint(text, value[1], True)
                for text, value in zip(texts[i], values[i], strict=True)
            ]
    line = GAP.join(places)
    head = (pad(cut(c.name, w), w, c.right) for c, w in zip(columns, wide, strict=True))
    return [
        *([paint(GAP.join(head).rstrip(), "1", colour)] if heading else []),
        *[(line % parts).rstrip() for parts in zip(*texts, strict=True)],
    ]


def _shown(texts: list[str]) -> list[str]:
    together = "".join(texts)
    return texts if together.isascii() and together.isprintable() else list(map(shown, texts))


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
