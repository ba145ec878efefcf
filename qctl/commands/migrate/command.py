"""`qctl migrate`: move the waiting messages of one broker to another."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand
from qctl.cli.confirm import CODES, ask
from qctl.cli.confirm import options as consent_options
from qctl.cli.progress import Progress
from qctl.cli.session import current
from qctl.cli.types import Names, Span, nearest
from qctl.output.table import Column
from qctl.output.text import count

COLUMNS = [
    Column("FROM"),
    Column("TO"),
    Column("MOVED", True),
    Column("DELAYED", True),
    Column("LEFT", True),
]


def _migrate(
    source: str,
    target: str,
    queues: list[str] | None,
    tasks: list[str] | None,
    limit: int | None,
    idle: float,
    forever: bool,
    yes: bool,
    dry_run: bool,
) -> int:
    from qcore.brokers.registry import open_broker
    from qctl.commands.migrate.migration import Migration

    session = current()
    with closing(open_broker(source)) as here, closing(open_broker(target)) as there:
        here.check()
        there.check()
        if here.place == there.place:
            raise exit_codes.CommandError(exit_codes.USAGE, "the two brokers are the same")
        names = dict(_pair(q) for q in queues or here.administration.queues())
        known = here.administration.queues()
        for name in names:
            if known and name not in known and not here.administration.depth(name).ready:
                raise exit_codes.CommandError(
                    exit_codes.NOT_FOUND, f"no queue named '{name}' at the source{nearest(name, known)}"
                )
        depths = {name: here.administration.depth(name) for name in names}
        waiting = sum(d.ready + (d.delayed or 0) for d in depths.values())
        if waiting and not dry_run:
            most = waiting if limit is None else min(limit, waiting)
            ask(f"at most {count(most, 'message')} of {', '.join(names)}", "moved to the other broker", yes)
        with Progress(session, waiting, "moved") as progress:
            migration = Migration(here, there, names, tasks or (), limit, progress.at)
            if not dry_run:
                migration.run(idle, forever)
        items: list[dict[str, Any]] = [
            {
                "source": m.source,
                "target": m.target,
                "moved": m.moved,
                "delayed": m.delayed,
                "left": m.left,
                "waited": depths[m.source].ready + (depths[m.source].delayed or 0),
            }
            for m in migration.queues.values()
        ]
    rows = [[str(i[k]) for k in ("source", "target", "moved", "delayed", "left")] for i in items]
    session.out.items("migrate", items, COLUMNS, rows, "source", dry_run=dry_run)
    what = f"{count(migration.done, 'message')} moved"
    session.out.note(f"nothing was moved, {waiting} wait (--dry-run)" if dry_run else what)
    return exit_codes.OK


def _pair(text: str) -> tuple[str, str]:
    """'mails' or 'mails:post', Celery's syntax: the names at the source and at the target."""
    name, _, target = text.partition(":")
    return name, target or name


command = CliCommand(
    "migrate",
    callback=_migrate,
    changes=True,
    params=[
        click.Argument(["source"], metavar="FROM_URL"),
        click.Argument(["target"], metavar="TO_URL"),
        click.Option(
            ["-Q", "--queues"],
            type=Names(),
            help="Only these queues; NAME:NEWNAME renames one. [default: all known queues]",
        ),
        click.Option(["-T", "--tasks"], type=Names(), help="Only messages of these tasks."),
        click.Option(["-n", "--limit"], type=click.IntRange(1), help="At most this many."),
        click.Option(
            ["--idle"],
            type=Span(),
            default=0.0,
            help="Continue until no message arrived for this long. [default: 0]",
        ),
        click.Option(["-F", "--forever"], is_flag=True, help="Continue until Ctrl-C."),
        click.Option(
            ["-a", "--ack-messages"],
            is_flag=True,
            expose_value=False,
            help="No effect: moved messages are always deleted at the source.",
        ),
        # -n is --limit here, as in Celery, so only --yes is taken from the shared options.
        *[o for o in consent_options() if o.name == "yes"],
        click.Option(["--dry-run"], is_flag=True, help="Change nothing; print what would be done."),
    ],
    help="""Move waiting messages from one broker to another.

    Each message is published at the target before it is deleted at the source: if the command is killed, no
    message is lost, and some may be at both. It ends when no message is left. Bytes and priorities are
    kept. Messages in flight stay; stop the workers first.""",
    examples=[
        ("qctl migrate redis://old/0 amqp://new//", "everything; asks for confirmation"),
        (
            "qctl migrate redis://old/0 redis://new/0 -Q mails:post -n 1000",
            "1,000 messages, to a queue of another name",
        ),
        (
            "qctl migrate redis://old/0 redis://new/0 --forever --yes",
            "while producers still use the old broker",
        ),
    ],
    exit_codes={**CODES, exit_codes.NOT_FOUND: "no queue of that name at the source"},
    see_also=["queue move", "queue ls"],
)
