"""`qctl completion`: the completion script of a shell."""

import click

from qctl.cli.command import command as page
from qctl.cli.completion import SCRIPTS
from qctl.cli.types import OneOf


@page(
    "completion",
    watches=False,
    settles=False,
    examples=[
        ('eval "$(qctl completion bash)"', "in ~/.bashrc"),
        ('qctl completion zsh > "${fpath[1]}/_qctl"', "for zsh"),
        ("qctl completion fish > ~/.config/fish/completions/qctl.fish", "for fish"),
    ],
)
@click.argument("shell", type=OneOf("shell", SCRIPTS))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    Commands, options and values are completed, also the names of workers and tasks that are online.
    """
    click.echo(SCRIPTS[shell], nl=False)
