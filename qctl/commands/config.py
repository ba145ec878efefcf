"""`qctl config`: print the effective settings and where each comes from."""

from __future__ import annotations

from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.session import current
from qctl.cli.types import Kind, OneOf
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


class SettingName(Kind):
    """A key of qctl, or the name of a setting of an app, which may be an old one."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from qcore.errors import UnknownName
        from qcore.settings.config import canonical

        if value in KEYS:
            return value
        try:
            return canonical(value, keep=False)
        except UnknownName:
            return OneOf("key", self.names()).convert(value, param, ctx)

    @staticmethod
    def names() -> list[str]:
        """All keys and all settings."""
        from qcore.settings.celery_defaults import DEFAULTS
        from qcore.settings.table import TABLE

        return [*KEYS, *sorted({**TABLE, **DEFAULTS})]

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
        return OneOf("key", self.names()).shell_complete(ctx, param, incomplete)


def _explain_setting(name: str) -> None:
    """Show a setting of the app: its value, whether it is set, and how it compares with Celery's."""
    from qcore.settings.config import masked
    from qcore.settings.effects import remark

    conf = current().app.conf
    value = masked({name: conf[name]})[name]
    is_set = conf.value_set_for(name)
    source = "the app or the environment" if is_set else "default"
    said = remark(name)
    columns = [Column("KEY"), Column("VALUE"), Column("SOURCE"), Column("MEANING HERE")]
    rows: list[list[str | Cell]] = [[name, _words(value), source, said]]
    item = {"key": name, "value": value, "source": source, "wins": is_set, "remark": said}
    current().out.items("config.explain", [item], columns, rows, "key")


def _explain(key: str | None) -> None:
    if key is not None and key not in KEYS:
        _explain_setting(key)
        return
    layers = current().layers
    items = []
    for name in [key] if key else KEYS:
        sources = layers.sources_of(name)
        if name == "context" and not sources and layers.context is not None:
            value, source = _context(layers)
            sources = [(source, value)]
        items += [
            {"key": name, "value": _shown(value), "source": source, "wins": number == 0, "remark": None}
            for number, (source, value) in enumerate(sources)
        ]
        if not sources:
            items.append({"key": name, "value": None, "source": None, "wins": False, "remark": None})
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
        params=[click.Argument(["key"], type=SettingName(), required=False)],
        lists=True,
        help="""Show all places that set a setting, and which one takes effect.

        The name may also be that of a setting of the app (-A): then it shows the value, and whether the
        setting has the effect that it has in Celery.""",
        examples=[
            ("qctl config explain broker", "only this setting"),
            ("qctl -A proj config explain worker_timer", "what this setting of an app does"),
        ],
        see_also=["config ls", "ctx show"],
    )
)
