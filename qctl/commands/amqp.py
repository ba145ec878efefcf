"""`qctl amqp`: name the qctl equivalents of Celery's AMQP commands."""

from __future__ import annotations

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.types import nearest

INSTEAD = {
    "queue.purge": "qctl queue purge QUEUE",
    "queue.declare": "qctl call … --queue QUEUE, or start a worker with -Q QUEUE: both declare it",
    "queue.delete": "the broker's own tool, since other programs may use the queue",
    "queue.bind": "the setting task_queues, with an exchange and a routing key",
    "exchange.declare": "the setting task_queues, with an exchange",
    "exchange.delete": "the broker's own tool, since other programs may use the exchange",
    "basic.publish": "qctl call NAME --exchange E --routing-key K",
    "basic.get": "qctl queue peek QUEUE",
    "basic.ack": "qctl queue purge QUEUE --match id:ID",
}


@page(
    "amqp",
    examples=[("qctl amqp basic.get", "the command that shows messages")],
    exit_codes={exit_codes.FAILED: "always: the command only names its replacement"},
    see_also=["queue", "call", "list bindings"],
)
@click.argument("words", nargs=-1, metavar="[COMMAND] [ARGUMENTS]...")
def command(words: tuple[str, ...]) -> None:
    """Equivalents of the commands of Celery's AMQP shell.

    That shell works with one kind of broker, and takes messages without a way back. The commands here
    work on every broker, and a message is in one place at any instant.
    """
    if not words:
        lines = [f"  {name:<17} {instead}" for name, instead in INSTEAD.items()]
        raise exit_codes.CommandError(
            exit_codes.FAILED, "qctl has no AMQP shell; use instead of\n" + "\n".join(lines)
        )
    name = words[0]
    if name not in INSTEAD:
        raise exit_codes.CommandError(
            exit_codes.USAGE, f"no AMQP command named '{name}'{nearest(name, INSTEAD)}"
        )
    raise exit_codes.CommandError(
        exit_codes.FAILED, f"qctl has no AMQP shell; instead of {name} use: {INSTEAD[name]}"
    )
