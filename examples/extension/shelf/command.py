"""A command of `qctl`: `qctl hello`."""

from __future__ import annotations

import click

from qctl.cli.command import command
from qctl.cli.session import current


@command("hello", examples=[("qctl hello --name Ada", "greet Ada")])
@click.option("--name", default="you", help="Whom to greet.")
def hello(name: str) -> None:
    """Greet somebody, and say which broker this is."""
    click.echo(f"hello {name}, from the {current().broker.name} broker")
