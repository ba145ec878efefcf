"""`qctl config`: print the effective settings and where each comes from."""

from __future__ import annotations

from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.session import current
from qctl.cli.types import OneOf
from qctl.configuration.layers import KEYS, Layers
from qctl.output.table import Cell, Column

command = CliGroup(
    "config",
    help="""Show the effective settings and where each comes from.

    The highest precedence first: the command line (and a context named there), the environment (and
    QCTL_CONTEXT), the project's qctl.toml or [tool.qctl] of pyproject.toml, the context chosen with `ctx
    use`, your own config.toml, and the built-in defaults. The app's own settings come last.""",
    examples=[
        ("qctl config ls", "the effective settings"),
        ("qctl config explain broker", "where a setting is set, and which value takes effect"),
    ],
    exit_codes=(exit_codes.BAD_CONFIG,),
    subcommand_metavar="COMMAND [ARGUMENTS]...",
    see_also=["ctx", "help env"],
)


def _shown(value: Any) -> Any:
    """The value with passwords hidden."""
    from qctl.output.secrets import hide

    return hide(value)


def _words(value: Any) -> str:
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _context(layers: Layers) -> tuple[Any, str]:
    """The name of the effective context, and what selected it."""
    if layers.context is None:
        return None, ""
    return layers.context.name, layers.source("context") or "chosen with `qctl ctx use`"


def _show_list() -> None:
    layers = current().layers
    items = []
    for key in KEYS:
        value, source = _context(layers) if key == "context" else (layers.value(key), layers.source(key))
        items.append({"key": key, "value": _shown(value), "source": source or None})
    columns = [Column("KEY"), Column("VALUE"), Column("SOURCE")]
    rows: list[list[str | Cell]] = [[i["key"], _words(i["value"]), i["source"] or "-"] for i in items]
    current().out.items("config", items, columns, rows, "key")


def _explain(key: str | None) -> None:
    layers = current().layers
    items = []
    for name in [key] if key else KEYS:
        sources = layers.sources_of(name)
        if name == "context" and not sources and layers.context is not None:
            value, source = _context(layers)
            sources = [(source, value)]
        items += [
            {"key": name, "value": _shown(value), "source": source, "wins": number == 0}
            for number, (source, value) in enumerate(sources)
        ]
        if not sources:
            items.append({"key": name, "value": None, "source": None, "wins": False})
    columns = [Column("KEY"), Column("VALUE"), Column("SOURCE"), Column("WINS")]
    rows: list[list[str | Cell]] = [
        [i["key"], _words(i["value"]), i["source"] or "not set anywhere", "yes" if i["wins"] else ""]
        for i in items
    ]
    current().out.items("config.explain", items, columns, rows, "key")


command.add_command(
    CliCommand(
        "ls",
        callback=_show_list,
        params=[],
        lists=True,
        help="List the effective settings; passwords are hidden.",
        examples=[("qctl config ls", "for this directory and user")],
        see_also=["config explain"],
    )
)
command.add_command(
    CliCommand(
        "explain",
        callback=_explain,
        params=[click.Argument(["key"], type=OneOf("key", KEYS), required=False)],
        lists=True,
        help="Show all places that set a setting, and which one takes effect.",
        examples=[("qctl config explain broker", "only this setting")],
        see_also=["config ls", "ctx show"],
    )
)
