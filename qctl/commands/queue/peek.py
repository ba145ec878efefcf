"""`queue peek`: print the next messages of a queue without claiming them."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import islice
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand
from qctl.cli.session import current
from qctl.cli.types import OneOf, QueueName
from qctl.commands.queue.ls import refuse_unknown
from qctl.filters import parse
from qctl.fleet.queued_messages import item, matching
from qctl.output.csv_fields import fields_of
from qctl.output.secrets import hide
from qctl.output.table import Column
from qctl.output.text import count
from qctl.output.writer import to_json

NEXT = 20
KWARGS = "kwargs."
_COLUMNS = [
    Column("ID"),
    Column("NAME"),
    Column("STATE"),
    Column("PRIORITY", True),
    Column("DUE AT"),
    Column("REDELIVERED"),
    Column("ARGS"),
]


def _peek(name: str, words: tuple[str, ...], limit: int | None, group_by: str | None, raw: bool) -> None:
    refuse_unknown(name)
    session, wanted = current(), parse(" ".join(words))
    found = matching(session.broker, name, wanted, bool(group_by and group_by.startswith(KWARGS)))
    if group_by:
        counts = Counter(_value(r, group_by) for _, r in islice(found, limit))
        groups = [{group_by: key, "count": number} for key, number in counts.most_common()]
        rows = [[str(g[group_by]), str(g["count"])] for g in groups]
        columns = [Column(group_by.upper()), Column("COUNT", True)]
        session.out.items("queue.peek.group", groups, columns, rows, group_by)
        session.out.note(count(counts.total(), "message"))
        return
    most = NEXT if limit is None else limit
    shown = list(islice(found, most))
    if raw and session.out.for_people:
        sys.stdout.flush()
        for one, _ in shown:
            sys.stdout.buffer.write(one.raw + b"\n")
        sys.stdout.buffer.flush()
        return
    items = [item(one, record, raw) for one, record in shown]
    rows = [
        [
            i["id"] or "-",
            i["name"] or f"malformed: {i['problem']}",
            i["state"],
            str(i["priority"]),
            i["due_at"] or "-",
            "yes" if i["redelivered"] else "",
            " ".join(v if isinstance(v, str) else to_json(v) for v in (i["args"], i["kwargs"]) if v),
        ]
        for i in items
    ]
    fields = [*fields_of("queue.peek"), *(["raw"] if raw else [])]
    session.out.items("queue.peek", items, _COLUMNS, rows, "id", fields)
    more = f", and perhaps more (-n {most})" if len(shown) == most else ""
    session.out.note(f"{count(len(shown), 'message')}{more}")


def _value(record: dict[str, Any], key: str) -> str:
    """The value of a message's field, or of one of its keyword arguments, as text."""
    if not key.startswith(KWARGS):
        return str(record[key] or "(no task)")
    kwargs, name = record.get("kwargs"), key.removeprefix(KWARGS)
    if not isinstance(kwargs, dict) or name not in kwargs:
        return "(none)"
    value = hide(kwargs[name], name)
    return value if isinstance(value, str) else to_json(value)


class Grouping(OneOf):
    """A field of messages, or kwargs.NAME: a keyword argument."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        return text if text.startswith(KWARGS) and text != KWARGS else super().convert(value, param, ctx)


page = CliCommand(
    "peek",
    callback=_peek,
    params=[
        click.Argument(["name"], type=QueueName()),
        click.Argument(["words"], metavar="[FILTER]...", nargs=-1),
        click.Option(
            ["-n", "--limit", "limit"],
            type=click.IntRange(1),
            help=f"At most this many. [default: {NEXT}; with --group-by: all]",
        ),
        click.Option(
            ["--group-by"],
            type=Grouping("grouping", ("name", "queue", "state", f"{KWARGS}NAME")),
            help="Count messages by this field, or by a keyword argument: kwargs.NAME.",
        ),
        click.Option(["--raw"], is_flag=True, help="Print the raw bytes; in JSON as base64."),
    ],
    lists=True,
    help="""Show the next messages of a queue without changing it.

    Ready messages come first, in the order of their delivery, then delayed ones. RabbitMQ
    flags messages as redelivered when they are read, so the command is refused there.""",
    examples=[
        ("qctl queue peek mails", "the next twenty messages"),
        ("qctl queue peek mails --group-by name", "counts by task name"),
        ("qctl queue peek mails --group-by kwargs.tenant", "counts by the value of an argument"),
        ("qctl queue peek mails 'name:proj.* kwargs.user=12' -o json", "see `qctl help filters`"),
    ],
    exit_codes={
        exit_codes.NOT_FOUND: "no queue of that name",
        exit_codes.FAILED: "this broker cannot do that",
    },
    see_also=["queue ls", "queue save"],
)
