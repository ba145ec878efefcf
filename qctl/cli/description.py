"""The commands as data, for programs that call qctl: `qctl help -o json`.

In:  a command and its context.  Out: a mapping of JSON values: usage, options, arguments, examples, exit
codes, and the same of the commands in it.
"""

from __future__ import annotations

from typing import Any

import click

from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.global_options import GlobalOption


def describe(name: str, page: CliCommand, ctx: click.Context) -> dict[str, Any]:
    """name: the words of the command, with qctl."""
    own = [p for p in page.params if not isinstance(p, GlobalOption) and not getattr(p, "hidden", False)]
    found: dict[str, Any] = {
        "command": name,
        "summary": page.summary(),
        "text": page.text(),
        "usage": " ".join([name, *page.collect_usage_pieces(ctx)]),
        "options": [_option(p, ctx) for p in own if isinstance(p, click.Option)],
        "arguments": [_argument(p) for p in own if isinstance(p, click.Argument)],
        "examples": [{"line": one.line, "what": one.what} for one in page.examples],
        "exit_codes": {str(code): words for code, words in page.exit_codes.items()},
    }
    if isinstance(page, CliGroup):
        found["commands"] = [_inner(name, page, word, ctx) for word in page.list_commands(ctx)]
    return found


def _inner(name: str, group: CliGroup, word: str, ctx: click.Context) -> dict[str, Any]:
    inner = group.get_command(ctx, word)
    assert isinstance(inner, CliCommand)
    return describe(f"{name} {word}", inner, click.Context(inner, info_name=word, parent=ctx))


def _option(option: click.Option, ctx: click.Context) -> dict[str, Any]:
    return {
        "names": [*option.opts, *option.secondary_opts],
        "takes_value": not option.is_flag and not option.count,
        "value": None if option.is_flag or option.count else option.make_metavar(ctx),
        "required": option.required,
        "multiple": option.multiple,
        "help": option.help or "",
    }


def _argument(argument: click.Argument) -> dict[str, Any]:
    return {
        "name": argument.metavar or argument.human_readable_name,
        "required": argument.required,
        "multiple": argument.nargs != 1,
    }


def global_options(page: CliCommand, ctx: click.Context) -> list[dict[str, Any]]:
    """The options that every command takes."""
    return [_option(p, ctx) for p in page.params if isinstance(p, GlobalOption)]
