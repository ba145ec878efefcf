"""`qctl demo`: a tour of the commands in about ten seconds. After this: steps.py."""

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.session import current


@page(
    "demo",
    watches=False,
    settles=False,
    examples=[("qctl demo", "start a worker, send tasks, look at them, stop the worker")],
    exit_codes={exit_codes.OK: "every step succeeded", exit_codes.FAILED: "a step failed"},
    see_also=["worker", "call", "events"],
)
@click.option("--keep", is_flag=True, help="Keep the directory with the broker and the worker's log.")
def command(keep: bool) -> int:
    """Try the main commands in ten seconds, without a server.

    A worker is started on an embedded broker in a new directory; every command is printed before it is
    run, so that you can type it yourself. On a terminal the dashboard is offered at the end.
    """
    from qctl.commands.demo.steps import run

    return run(current(), keep)
