"""The columns of a list: how wide they are, and which are left out.

In:  fields and the room.  Out: a width for each.
After this: virtual_table.py, which draws their cells, and views/panels.py, which draws them into a canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GAP = 1


class Part(NamedTuple):
    """One cell: text and its style."""

    text: str
    style: str = ""


class Field(NamedTuple):
    """One column."""

    name: str
    width: int  # minimum width
    priority: int = 0  # the highest number is left out first
    #: of numbers: in a list, `width` is what they are expected to need, and they get at most twice that
    right: bool = False
    grows: int = 0  # its share of the remaining width
    middle: bool = False  # long text is cut in the middle
    order: str = ""  # the attribute that rows are sorted by; empty: not sortable
    most: int = 0  # a growing column is not wider, because no value is; 0: without limit
    wide_from: int = 0  # it is shown only in tables of so many cells
    fits: bool = False  # in a list, `width` is the most that its texts need


class Order(NamedTuple):
    """A column by which rows are sorted."""

    by: str = ""  # a Field's `order`; empty: unsorted
    reverse: bool = False


def widths_of(fields: Sequence[Field], room: int) -> list[int]:
    """The width of each column, 0 for those left out."""
    wide = [f.width if room >= f.wide_from else 0 for f in fields]

    def total() -> int:
        return sum(wide) + GAP * (sum(w > 0 for w in wide) - 1)

    for number in sorted(range(len(wide)), key=lambda n: (-fields[n].priority, -n)):
        if total() <= room or fields[number].priority == 0:
            break
        wide[number] = 0
    growing = [n for n, f in enumerate(fields) if f.grows and wide[n]]
    spare = room - total()
    while growing and spare > 0:
        for turn, number in enumerate(growing):
            limit = (fields[number].most or room) - wide[number]
            share = -(-spare * fields[number].grows // sum(fields[n].grows for n in growing[turn:]))
            share = max(min(share, limit), 0)
            wide[number] += share
            spare -= share
        growing = [n for n in growing if wide[n] < (fields[n].most or room)]
    return wide
