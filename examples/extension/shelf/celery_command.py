"""A command that was written for Celery's command line: `celery salute`, and `qctl salute`."""

from __future__ import annotations

from typing import Any

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options


@click.command(cls=CeleryCommand)
@click.option("--times", type=int, default=1, cls=CeleryOption, help_group="Salute", help="How often.")
@click.pass_context
@handle_preload_options
def salute(ctx: Any, times: int) -> None:
    """Say which app this is."""
    for _ in range(times):
        ctx.obj.echo(f"saluting {ctx.obj.app.main}")
