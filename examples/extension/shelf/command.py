"""Commands: `qctl hello` is one of qctl's kind, `qctl salute` was written for Celery's command line."""

from __future__ import annotations

from typing import Any

import click

from qctl.cli.command import command
from qctl.cli.session import current


@command("hello", examples=[("qctl hello --name Ada", "greet Ada")])
@click.option("--name", default="you", help="Whom to greet.")
def hello(name: str) -> None:
    """Greet somebody, and say which broker this is."""
    click.echo(f"hello {name}, from the {current().broker.name} broker")


@click.command()
@click.pass_context
def salute(ctx: Any) -> None:
    """Say which app this is."""
    ctx.obj.echo(f"saluting {ctx.obj.app.main}")
