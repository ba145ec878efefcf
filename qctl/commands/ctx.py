"""`qctl ctx`: named fleets, and the default one for other commands."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.confirm import CODES, ask
from qctl.cli.confirm import options as consent_options
from qctl.cli.session import current
from qctl.cli.types import ContextName, OneOf
from qctl.configuration import contexts
from qctl.configuration.contexts import COLOURS, Context
from qctl.output import state_styles
from qctl.output.table import Cell, Column
from qctl.output.text import age

COLUMNS = [
    *(Column("IN USE", field="current"), Column("NAME"), Column("CLASS"), Column("BROKER")),
    *(Column("READ-ONLY", field="read_only"), Column("APP"), Column("QUEUE", wide=True)),
    Column("RESULTS", field="result_backend", wide=True),
]


class ContextGroup(CliGroup):
    """`qctl ctx -` is short for `qctl ctx use -`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, ["use", *args] if args[0] == "-" else args)


command = ContextGroup(
    "ctx",
    help="""Name fleets (contexts), and choose the default.

    A context has a broker and, if needed, an app, a queue and an output format. A context of class
    prod is read-only by default: there a change needs --read-write, and
    --reason for the audit log. Contexts are stored in contexts.toml, which only you may read.

    --context takes precedence over the environment, QCTL_CONTEXT over the project's qctl.toml, and that
    over a context chosen with `ctx use`. The chosen context is ignored when -b or the environment names
    another broker.""",
    examples=[
        ("qctl ctx add prod -b redis://host/0 --class prod", "add a context"),
        ("qctl ctx use prod", "set it as the default"),
        ("qctl ctx -", "back to the previous one"),
        ("qctl --context prod status", "for one command only"),
    ],
    exit_codes=(exit_codes.NOT_FOUND, exit_codes.BAD_CONFIG),
    subcommand_metavar="COMMAND [ARGUMENTS]...",
    see_also=["config explain", "status"],
)


def _name_argument(required: bool = True) -> click.Argument:
    return click.Argument(["name"], type=ContextName(), required=required)


def _item(context: Context, chosen: str) -> dict[str, Any]:
    values = context.values
    return {
        "name": context.name,
        "current": context.name == chosen,
        "class": context.kind or None,
        "broker": values.get("broker"),
        "result_backend": values.get("result_backend"),
        "app": values.get("app"),
        "read_only": context.read_only,
        "queue": values.get("queue"),
        "colour": values.get("colour"),
    }


def _print(found: list[Context], chosen: str) -> None:
    from qcore.errors import mask_url

    items = [_item(context, chosen) for context in found]
    rows: list[list[str | Cell]] = [
        [
            "*" if item["current"] else "",
            Cell(item["name"], context.ansi),
            item["class"] or "-",
            mask_url(item["broker"] or "-"),
            "yes" if item["read_only"] else "no",
            item["app"] or "-",
            item["queue"] or "-",
            mask_url(item["result_backend"] or "-"),
        ]
        for item, context in zip(items, found, strict=True)
    ]
    current().out.items("ctx", items, COLUMNS, rows, "name")


def _show_list() -> None:
    found = contexts.load(current().out.warn)
    _print(list(found.values()), contexts.chosen()[0])
    if not found:
        current().out.note("there is no context; `qctl ctx add NAME -b URL` adds one")


def _named(name: str) -> Context:
    return contexts.named(contexts.load(current().out.warn), name, "ctx")


def _in_use() -> str:
    name = current().options.given.get("context") or os.environ.get("QCTL_CONTEXT") or contexts.chosen()[0]
    if not name:
        raise exit_codes.CommandError(exit_codes.NOT_FOUND, "no context is in use", "see `qctl ctx ls`")
    return str(name)


def _show(name: str | None) -> None:
    _print([_named(name or _in_use())], contexts.chosen()[0])


def _add(name: str, kind: str | None, colour: str | None, queue: str | None, replace: bool) -> None:
    from qctl.configuration.addresses import why_bad

    given = current().options.given
    kept = ("broker", "result_backend", "app", "read_only", "output")
    values: dict[str, Any] = {k: given[k] for k in kept if k in given}
    if "timeout" in given:
        values["timeout"] = f"{given['timeout']:g}"
    values |= {k: v for k, v in (("class", kind), ("colour", colour), ("queue", queue)) if v is not None}
    for key in ("broker", "result_backend"):
        if key in values and (why := why_bad(values[key])):
            raise exit_codes.CommandError(exit_codes.BAD_CONFIG, f"the {key.replace('_', ' ')} {why}")
    found = contexts.load(current().out.warn)
    if contexts.valid_name(name) in found and not replace:
        raise exit_codes.CommandError(
            exit_codes.USAGE, f"there is a context '{name}' already", "--replace overwrites it"
        )
    found[name] = Context(name, values)
    contexts.save(found)
    _print([found[name]], contexts.chosen()[0])
    current().out.note(f"`qctl ctx use {name}` chooses it")


def _use(name: str | None, none: bool) -> None:
    if bool(name) is none:
        raise exit_codes.CommandError(exit_codes.USAGE, "name a context, or give --none")
    if none:
        contexts.choose("")
        _print([], "")
        current().out.note("no context is in use")
        return
    if name == "-":
        name = contexts.chosen()[1]
        if not name:
            raise exit_codes.CommandError(exit_codes.NOT_FOUND, "no context was in use before")
    context = _named(name or "")
    contexts.choose(context.name)
    _print([context], context.name)
    careful = " (read-only)" if context.read_only else ""
    current().out.note(f"in use: {context.name}{careful}; `qctl ctx -` goes back")


def _remove(name: str, yes: bool, dry_run: bool) -> None:
    context = _named(name)
    if not dry_run:
        ask(f"the context {name}", "deleted", yes)
        found = contexts.load()
        del found[name]
        contexts.save(found)
        contexts.forget(name)
    _print([context], contexts.chosen()[0])
    current().out.note("nothing was deleted (--dry-run)" if dry_run else f"{name} is deleted")


def _edit() -> None:
    import shlex
    import subprocess
    import sys

    from qctl.configuration.directories import write_private

    path = contexts.file()
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    if not sys.stdin.isatty() and "VISUAL" not in os.environ and "EDITOR" not in os.environ:
        raise exit_codes.CommandError(
            exit_codes.USAGE, "there is no terminal to edit on", f"the file is {path}"
        )
    copy = path.with_name("contexts.edited.toml")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    write_private(copy, before or '# [contexts.NAME]\n# broker = "redis://host/0"\n')
    try:
        code = subprocess.run([*shlex.split(editor), str(copy)], check=False).returncode
    except (OSError, ValueError) as exc:
        raise exit_codes.CommandError(exit_codes.FAILED, f"cannot run the editor '{editor}': {exc}") from None
    if code:
        raise exit_codes.CommandError(
            exit_codes.FAILED, f"the editor exited with code {code}; nothing was changed"
        )
    found = contexts.load(current().out.warn, copy)  # on an error the edited text stays in the copy
    write_private(path, copy.read_text(encoding="utf-8"))
    copy.unlink()
    _print(list(found.values()), contexts.chosen()[0])


def _test(names: tuple[str, ...]) -> int:
    from qcore.errors import mask_url

    session = current()
    items: list[dict[str, Any]] = []
    rows: list[list[str | Cell]] = []
    codes: list[bool] = []
    for name in names or [_in_use()]:
        context, began, error = _named(name), time.perf_counter(), ""
        try:
            other = session.in_context(name)
            try:
                other.broker.check()
            finally:
                other.close()
        except Exception as exc:
            stop = exit_codes.explain(exc)
            if stop is None:
                raise
            error = mask_url(stop.message)
        took_s = time.perf_counter() - began
        broker = mask_url(str(context.values.get("broker") or "sqlite://"))
        items.append(
            {
                "name": name,
                "reachable": not error,
                "took_s": round(took_s, 4),
                "broker": broker,
                "error": error or None,
            }
        )
        state = Cell("unreachable", state_styles.FAILED.ansi) if error else Cell("reachable")
        rows.append([Cell(name, context.ansi), state, age(took_s), broker, error])
        codes.append(bool(error))
    columns = [
        Column("NAME"),
        Column("STATE", field="reachable"),
        Column("TOOK", True, "took_s"),
        Column("BROKER"),
        Column("ERROR"),
    ]
    session.out.items("ctx.test", items, columns, rows, "name")
    return exit_codes.OK if not any(codes) else exit_codes.UNAVAILABLE if all(codes) else exit_codes.PARTIAL


def _page(name: str, **attributes: Any) -> CliCommand:
    return CliCommand(name, settles=False, **attributes)


for page in (
    _page(
        "ls",
        callback=_show_list,
        params=[],
        lists=True,
        help="List the contexts.",
        examples=[("qctl ctx ls -o json", "for scripts; passwords are hidden")],
        see_also=["ctx use"],
    ),
    _page(
        "add",
        callback=_add,
        params=[
            click.Argument(["name"]),
            click.Option(
                ["--class", "kind"],
                metavar="WORD",
                help="Class of the fleet: prod makes it read-only by default; any other word is a label.",
            ),
            click.Option(["--colour"], type=OneOf("colour", COLOURS), help="Colour of its name in lists."),
            click.Option(["--queue"], help="Default queue of commands."),
            click.Option(["--replace"], is_flag=True, help="Overwrite an existing context of that name."),
        ],
        watches=False,
        help="""Add a context: a name for a fleet.

        The broker, the app, the result store, the format, the time-out and --read-only are the options
        that every command has. A password need not be in the file: -b env:NAME, file:PATH and
        keyring:NAME say where it is.""",
        examples=[
            ("qctl ctx add prod -b env:PROD_BROKER --class prod", "the URL stays in the environment"),
            ("qctl ctx add here -b sqlite:///q.db -A proj", "with an app"),
        ],
        exit_codes={exit_codes.BAD_CONFIG: "the URL cannot be used, or contexts.toml has a mistake"},
        see_also=["ctx use", "ctx edit"],
    ),
    _page(
        "use",
        callback=_use,
        params=[
            click.Argument(["name"], type=ContextName(), required=False),
            click.Option(["--none"], is_flag=True, help="Use no context by default."),
        ],
        watches=False,
        help="Set this fleet as the default; - is the previous one.",
        examples=[
            ("qctl ctx use prod", "set it as the default"),
            ("qctl ctx use -", "back to the previous one"),
        ],
        exit_codes={
            exit_codes.NOT_FOUND: "no context was in use before",
            exit_codes.BAD_CONFIG: "no context of that name",
        },
        see_also=["ctx ls"],
    ),
    _page(
        "show",
        callback=_show,
        params=[_name_argument(required=False)],
        help="Show one context, or the one in use; passwords are hidden.",
        examples=[("qctl ctx show prod -o yaml", "all of its settings")],
        exit_codes={
            exit_codes.NOT_FOUND: "no context is in use",
            exit_codes.BAD_CONFIG: "no context of that name",
        },
        see_also=["config explain"],
    ),
    _page(
        "test",
        callback=_test,
        params=[click.Argument(["names"], nargs=-1, type=ContextName(), metavar="[NAME]...")],
        help="Test whether the brokers of contexts can be reached.",
        examples=[("qctl ctx test prod", "reachable or not, and the round-trip time")],
        exit_codes={
            exit_codes.PARTIAL: "some cannot be reached",
            exit_codes.UNAVAILABLE: "none can be reached",
        },
        see_also=["status"],
    ),
    _page(
        "edit",
        callback=_edit,
        params=[],
        watches=False,
        help="""Open contexts.toml in $VISUAL or $EDITOR.

        The file is checked before it takes effect. If it has a mistake, it is kept as
        contexts.edited.toml next to the old one.""",
        examples=[("qctl ctx edit", "all contexts in one file")],
        exit_codes={
            exit_codes.BAD_CONFIG: "the edited file has a mistake",
            exit_codes.FAILED: "the editor failed",
        },
        see_also=["ctx ls"],
    ),
    _page(
        "rm",
        callback=_remove,
        params=[_name_argument(), *consent_options()],
        watches=False,
        help="Delete a context; its fleet is not touched.",
        examples=[("qctl ctx rm old --yes", "without confirmation")],
        exit_codes={**CODES, exit_codes.BAD_CONFIG: "no context of that name"},
        see_also=["ctx ls"],
    ),
):
    command.add_command(page)
