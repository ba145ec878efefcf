"""Confirmation before deleting, moving or stopping.

In:  a text of what would happen.  Out: nothing if confirmed; else raises CommandError.
A reversible change is confirmed with yes or no. For an irreversible one its name must be typed, or given
with --confirm; in a context of class prod --yes is not enough for that.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.session import current, session_of
from qctl.output.text import shown

#: exit codes of commands that ask for confirmation
CODES = {
    exit_codes.FAILED: "you answered no",
    exit_codes.REFUSED: "--yes is not given, and there is no terminal to ask on",
}


def options() -> list[click.Parameter]:
    """The options of a command that asks for confirmation."""
    return [
        click.Option(["-y", "--yes"], is_flag=True, help="Do not ask for confirmation."),
        click.Option(["-n", "--dry-run"], is_flag=True, help="Change nothing; print what would be done."),
    ]


def confirm_option() -> click.Option:
    """The option of a command whose confirmation is a name."""

    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            session_of(ctx).options.confirm = value

    return click.Option(
        ["--confirm"],
        metavar="NAME",
        expose_value=False,
        callback=keep,
        help="Confirm without a prompt by giving the name; in prod --yes is not enough.",
    )


def ask(what: str, done: str, yes: bool, irreversible: str = "") -> None:
    """Return only if confirmed, else raise CommandError. what: '3 messages of mails'; done: 'deleted';
    irreversible: the name that must be typed for an irreversible change."""
    if irreversible:
        _ask_by_name(what, done, yes, irreversible)
        return
    if yes:
        return
    if not sys.stdin.isatty():
        raise exit_codes.CommandError(exit_codes.REFUSED, f"{what} would be {done}", "give --yes to do it")
    if not click.confirm(f"{shown(what)} will be {done}; continue?", default=False, err=True):
        raise exit_codes.CommandError(exit_codes.FAILED, f"nothing was {done}")


def _ask_by_name(what: str, done: str, yes: bool, name: str) -> None:
    session = current()
    given = session.options.confirm
    as_shown = shown(name)  # the name may come from others, and must not control the terminal
    if given is not None:
        if given not in (name, as_shown):
            raise exit_codes.CommandError(
                exit_codes.REFUSED, f"--confirm is '{given}', not '{name}'; nothing was {done}"
            )
        return
    prod = session.context is not None and session.context.is_prod
    if yes and not prod:
        return
    if not sys.stdin.isatty():
        how = f"--confirm '{name}'" if prod else "--yes"
        raise exit_codes.CommandError(exit_codes.REFUSED, f"{what} would be {done}", f"give {how} to do it")
    typed = click.prompt(
        f"{shown(what)} will be {done}; this cannot be undone; type '{as_shown}' to continue",
        default="",
        show_default=False,
        err=True,
    )
    if typed.strip() not in (name.strip(), as_shown.strip()):
        raise exit_codes.CommandError(exit_codes.FAILED, f"that is not '{name}'; nothing was {done}")
