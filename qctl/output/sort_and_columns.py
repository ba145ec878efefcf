"""Sorting, limit and columns of a list: --sort, --limit, --columns, --no-headers.

In:  items with their rows, and the list options.  Out: the selected items and columns, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qctl import exit_codes
from qctl.options import Listing
from qctl.output.records import refuse_unknown
from qctl.output.table import Cell, Column
from qctl.output.template import value_at

Item = Mapping[str, Any]
Row = Sequence[str | Cell]


class Shape(NamedTuple):
    """A list after sorting and limiting; left_out: number of items beyond the limit."""

    items: Sequence[Item]
    columns: list[Column]
    rows: list[Row]
    left_out: int


def shaped(wanted: Listing, items: Sequence[Item], columns: Sequence[Column], rows: Sequence[Row]) -> Shape:
    """Apply the list options. Raises CommandError for an unknown field or column."""
    if not (wanted.columns or wanted.sort or wanted.limit is not None):
        return Shape(items, list(columns), list(rows), 0)
    pairs = list(zip(items, rows, strict=True))
    if wanted.sort:
        field = wanted.sort.lstrip("-")
        refuse_unknown([field], items)
        pairs.sort(key=lambda pair: _order(value_at(pair[0], field)), reverse=wanted.sort.startswith("-"))
    all_of_them = len(pairs)
    if wanted.limit is not None:
        pairs = pairs[: wanted.limit]
    places = _places(wanted.columns, columns)
    return Shape(
        [item for item, _ in pairs],
        [columns[i] for i in places],
        [[row[i] for i in places] for _, row in pairs],
        all_of_them - len(pairs),
    )


def _places(names: Sequence[str] | None, columns: Sequence[Column]) -> list[int]:
    if not names:
        return list(range(len(columns)))
    known = {column.key: i for i, column in enumerate(columns)}
    known |= {column.name.lower().replace(" ", "_"): i for i, column in enumerate(columns)}
    found = []
    for name in names:
        place = known.get(name.lower().replace(" ", "_"))
        if place is None:
            from qcore.errors import did_you_mean

            near = did_you_mean(name, known) or f"; there are {', '.join(c.key for c in columns)}"
            raise exit_codes.CommandError(exit_codes.USAGE, f"no column named '{name}'{near}")
        found.append(place)
    return found


def _order(value: Any) -> tuple[int, Any]:
    """A sort key over values of different types: None first, then numbers, then text."""
    if value is None:
        return 0, 0
    return (1, value) if isinstance(value, bool | int | float) else (2, str(value))
