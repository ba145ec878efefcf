"""`qctl queue`: what waits where; pause and resume; move messages."""

from __future__ import annotations

from typing import Any

import click

from qctl import exits
from qctl.consent import CODES, ask
from qctl.consent import options as consent_options
from qctl.output.table import Column
from qctl.output.text import count
from qctl.pages import Page, PageGroup
from qctl.params import QueueName, nearest
from qctl.session import current

COLUMNS = [
    Column("QUEUE"),
    Column("READY", True),
    Column("DELAYED", True),
    Column("IN FLIGHT", True),
    Column("PAUSED"),
]

command = PageGroup(
    "queue",
    help="List, pause and resume queues, and move messages.",
    examples=[
        ("qctl queue ls", "what waits where"),
        ("qctl queue pause mails", "workers take no more from it"),
        ("qctl queue move mails mails-later --limit 100", "the next hundred"),
    ],
    exit_codes=(exits.NOT_FOUND,),
    subcommand_metavar="COMMAND [ARGUMENTS]...",
    see_also=["purge", "inspect active_queues"],
)


def _item(queue: str, paused: bool) -> dict[str, Any]:
    depth = current().broker.depth(queue)
    return {
        "queue": queue,
        "ready": depth.ready,
        "delayed": depth.delayed,
        "in_flight": depth.in_flight,
        "paused": paused,
    }


def _print(items: list[dict[str, Any]]) -> None:
    rows = [
        [i["queue"], *["-" if i[k] is None else str(i[k]) for k in ("ready", "delayed", "in_flight")]]
        for i in items
    ]
    for row, item in zip(rows, items, strict=True):
        row.append("yes" if item["paused"] else "")
    current().out.items("queue", items, COLUMNS, rows, "queue")


def _show_list() -> None:
    broker = current().broker
    paused = broker.paused()
    _print([_item(queue, queue in paused) for queue in sorted({*broker.queues(), *paused})])


def _refuse_unknown(queue: str) -> None:
    broker = current().broker
    known = {*broker.queues(), *broker.paused()}
    if queue not in known and known and not broker.depth(queue).ready:
        raise exits.Stop(exits.NOT_FOUND, f"no queue named '{queue}'{nearest(queue, known)}")


def _pause(name: str) -> None:
    _refuse_unknown(name)
    current().broker.pause(name)
    _print([_item(name, True)])
    current().out.note(f"{name} is paused; what runs goes on, and publishing too")


def _resume(name: str) -> None:
    _refuse_unknown(name)
    current().broker.resume(name)
    _print([_item(name, False)])


def _move(
    source: str, target: str, limit: int | None, task_ids: tuple[str, ...], yes: bool, dry_run: bool
) -> None:
    session = current()
    if source == target:
        raise exits.Stop(exits.USAGE, "the two queues are the same")
    _refuse_unknown(source)
    depth = session.broker.depth(source)
    waiting = depth.ready + (depth.delayed or 0)
    most = min(n for n in (waiting, limit, len(task_ids) or None) if n is not None)
    if most and not dry_run:
        ask(f"at most {count(most, 'message')} of {source}", f"moved to {target}", yes)
    moved = 0 if dry_run else session.broker.move(source, target, limit, list(task_ids) or None)
    item = {"source": source, "target": target, "moved": moved, "waited": waiting}
    columns = [Column("FROM"), Column("TO"), Column("MOVED", True), Column("WAITED", True)]
    session.out.items(
        "queue.move", [item], columns, [[str(v) for v in item.values()]], "moved", dry_run=dry_run
    )
    what = f"{count(moved, 'message')} moved"
    session.out.note("nothing was moved (--dry-run)" if dry_run else what)


command.add_command(
    Page(
        "ls",
        callback=_show_list,
        params=[],
        lists=True,
        help="List the queues, and how many messages are where.",
        examples=[("qctl queue ls -o json", "for a program")],
        see_also=["queue pause"],
    )
)
command.add_command(
    Page(
        "pause",
        callback=_pause,
        params=[click.Argument(["name"], type=QueueName())],
        changes=True,
        help="""Let workers take no more from a queue.

        Within a second no qcore worker takes from it, also those that start later. Tasks that run go on,
        and so does publishing. Celery's workers know nothing of it. RabbitMQ keeps no such mark: there
        `qctl control cancel_consumer` tells the workers of today.""",
        examples=[("qctl queue pause mails", "until `qctl queue resume mails`")],
        exit_codes={exits.NOT_FOUND: "no queue of that name", exits.FAILED: "this broker cannot do that"},
        see_also=["queue resume", "control cancel_consumer"],
    )
)
command.add_command(
    Page(
        "resume",
        callback=_resume,
        params=[click.Argument(["name"], type=QueueName())],
        changes=True,
        help="Let workers take from a queue again.",
        examples=[("qctl queue resume mails", "what waited is run")],
        exit_codes={exits.NOT_FOUND: "no queue of that name", exits.FAILED: "this broker cannot do that"},
        see_also=["queue pause"],
    )
)
command.add_command(
    Page(
        "move",
        callback=_move,
        params=[
            click.Argument(["source"], type=QueueName(), metavar="FROM"),
            click.Argument(["target"], type=QueueName(), metavar="TO"),
            click.Option(["--limit"], type=click.IntRange(1), help="At most so many, the next ones first."),
            click.Option(["--id", "task_ids"], multiple=True, help="Only this task; may be repeated."),
            *consent_options(),
        ],
        changes=True,
        help="""Move waiting messages to another queue.

        They keep their bytes, priorities and times, and are in one of the two queues at any instant.
        What a worker holds stays.""",
        examples=[
            ("qctl queue move mails later --limit 100", "the next hundred, after a question"),
            ("qctl queue move mails later --id 1f0c… --yes", "the message of one task"),
        ],
        exit_codes={**CODES, exits.NOT_FOUND: "no queue of that name"},
        see_also=["queue ls", "purge"],
    )
)
