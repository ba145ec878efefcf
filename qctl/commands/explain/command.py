"""`qctl explain`: print the meaning of output fields."""

from __future__ import annotations

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.session import current
from qctl.cli.types import OneOf, nearest
from qctl.commands.explain.field_docs import MEANINGS, meaning
from qctl.output.table import Column


class FieldName(OneOf):
    """The name of a field: completes all names; the command reports unknown ones."""

    def __init__(self) -> None:
        super().__init__("field", MEANINGS)

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


@page(
    "explain",
    lists=True,
    watches=False,
    settles=False,
    examples=[
        ("qctl explain in_flight", "the meaning of a field of -o json"),
        ("qctl explain", "all fields"),
    ],
    exit_codes={exit_codes.NOT_FOUND: "no field of that name"},
    see_also=["help formats", "help filters"],
)
@click.argument("fields", nargs=-1, type=FieldName(), metavar="[FIELD]...")
def command(fields: tuple[str, ...]) -> None:
    """Explain the fields of the output.

    Fields ending in _s are seconds, those ending in _at are points in time.
    """
    out = current().out
    items = []
    for name in fields or MEANINGS:
        words = meaning(name)
        if words is None:
            hint = nearest(name, MEANINGS)
            raise exit_codes.CommandError(
                exit_codes.NOT_FOUND, f"there is no field '{name}'{hint}", "see `qctl explain`"
            )
        items.append({"field": name, "meaning": words})
    rows = [[i["field"], i["meaning"]] for i in items]
    out.items("explain", items, [Column("FIELD"), Column("MEANING")], rows, "field")
