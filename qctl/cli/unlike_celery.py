"""Options of Celery's commands that are refused here, or that have no effect.

In:  the names of an option, and why.  Out: a decorator of click for it. docs/celery.md and the inventory name
each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def refused(*names: str, why: str, is_flag: bool = False) -> Callable[[Any], Any]:
    """An option of Celery's that is refused, with a one-sentence reason."""

    def refuse(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value:
            raise click.UsageError(f"{names[-1]} is not supported: {why}", ctx)

    metavar = None if is_flag else "…"
    return click.option(
        *names,
        is_flag=is_flag,
        metavar=metavar,
        hidden=True,
        expose_value=False,
        callback=refuse,
        help=f"Refused: {why}.",
    )


def accepted(*names: str, why: str, is_flag: bool = True) -> Callable[[Any], Any]:
    """An option of Celery's that is accepted without effect, because it requests the default."""
    metavar = None if is_flag else "…"
    return click.option(
        *names, is_flag=is_flag, metavar=metavar, expose_value=False, help=f"No effect: {why}."
    )
