"""`qctl purge`: delete queued messages, with confirmation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.confirm import CODES, ask, confirm_option
from qctl.cli.session import Session, current
from qctl.cli.types import Names, QueueNames, nearest
from qctl.output.table import Column
from qctl.output.text import count

COLUMNS = [
    Column("QUEUE"),
    Column("DELETED", True),
    Column("WAITED", True),
    Column("DELAYED", True),
    Column("IN FLIGHT", True),
]


def confirm(function: Any) -> Any:
    """Add --confirm to the command; click's decorators keep parameters in this attribute."""
    function.__click_params__ = [confirm_option(), *getattr(function, "__click_params__", [])]
    return function


@page(
    "purge",
    changes=True,
    examples=[
        ("qctl purge", "the queues of the app; asks for confirmation"),
        ("qctl purge -Q reports,mails --yes", "these queues, without confirmation"),
        ("qctl purge -Q reports --dry-run", "only print what would be deleted"),
    ],
    exit_codes={
        **CODES,
        exit_codes.NOT_FOUND: "no queue of that name",
    },
    see_also=["inspect reserved", "inspect active_queues"],
)
@click.option("-Q", "--queues", type=QueueNames(), help="Queues to purge. [default: the app's queues]")
@click.option("-X", "--exclude-queues", type=Names(), help="Not these.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("-f", "--force", is_flag=True, help="Same as --yes.")
@click.option("-n", "--dry-run", is_flag=True, help="Delete nothing; print what would be deleted.")
@confirm
def command(
    queues: list[str] | None, exclude_queues: list[str] | None, yes: bool, force: bool, dry_run: bool
) -> int:
    """Delete the messages that wait in queues.

    Tasks that a worker holds already (in flight) are not deleted; revoke them instead. The names of the
    queues have to be typed, with commas between them; or give --yes, in prod --confirm NAMES.
    """
    session = current()
    chosen = [q for q in _queues(session, queues) if q not in (exclude_queues or ())]
    _refuse_unknown(session, chosen if queues else [])
    before = {queue: session.broker.administration.depth(queue) for queue in chosen}
    waiting = sum(d.ready + (d.delayed or 0) for d in before.values())
    if waiting and not dry_run:
        what = f"{count(waiting, 'message')} of {', '.join(chosen)}"
        ask(what, "deleted", yes or force, irreversible=",".join(chosen))
    items = []
    for queue, depth in before.items():
        deleted = 0 if dry_run else session.broker.administration.purge(queue)
        items.append(
            {
                "queue": queue,
                "deleted": deleted,
                "ready": depth.ready,
                "delayed": depth.delayed,
                "in_flight": depth.in_flight,
            }
        )
    _print(session, items, dry_run)
    return exit_codes.OK


def _queues(session: Session, named: list[str] | None) -> list[str]:
    """The queues to purge: the named ones, or those of the app's settings."""
    if named:
        return named
    conf = session.app.conf
    configured = [str(getattr(q, "name", q)) for q in conf.task_queues or ()]
    return configured or [conf.task_default_queue]


def _refuse_unknown(session: Session, queues: Sequence[str]) -> None:
    known = session.broker.administration.queues()
    for queue in queues:
        if known and queue not in known:
            depth = session.broker.administration.depth(queue)
            if not depth.ready and not depth.delayed:
                raise exit_codes.CommandError(
                    exit_codes.NOT_FOUND, f"no queue named '{queue}'{nearest(queue, known)}"
                )


def _print(session: Session, items: list[dict[str, Any]], dry_run: bool) -> None:
    rows = [["-" if v is None else str(v) for v in item.values()] for item in items]
    session.out.items("purge", items, COLUMNS, rows, "queue", dry_run=dry_run)
    total = sum(i["deleted"] for i in items)
    held = sum(i["in_flight"] or 0 for i in items)
    session.out.note("nothing was deleted (--dry-run)" if dry_run else f"{count(total, 'message')} deleted")
    if held:
        session.out.note(f"{count(held, 'message')} held by workers left alone")
