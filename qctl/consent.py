"""Ask before something is deleted or moved.

In:  what would happen, in words.  Out: nothing when it may; else the command ends.
"""

from __future__ import annotations

import sys

import click

from qctl import exits

#: for the page of a command that asks
CODES = {
    exits.FAILED: "you answered no",
    exits.REFUSED: "no --yes, and there is no terminal to ask on",
}


def options() -> list[click.Parameter]:
    """The options of a command that asks."""
    return [
        click.Option(["-y", "--yes"], is_flag=True, help="Do not ask."),
        click.Option(["-n", "--dry-run"], is_flag=True, help="Change nothing; say what would be done."),
    ]


def ask(what: str, done: str, yes: bool) -> None:
    """Go on only when it is wanted. what: '3 messages of mails'; done: 'deleted'."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise exits.Stop(exits.REFUSED, f"{what} would be {done}", "say --yes to do it")
    if not click.confirm(f"{what} will be {done}; go on?", default=False, err=True):
        raise exits.Stop(exits.FAILED, f"nothing was {done}")
