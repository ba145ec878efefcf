"""`qctl quarantine`: messages that could not be a task, kept byte for byte."""

from __future__ import annotations

import click

from qctl import exits
from qctl.output.table import Column
from qctl.output.text import count, stamp
from qctl.pages import Page, PageGroup
from qctl.params import nearest
from qctl.session import current

command = PageGroup(
    "quarantine",
    help="""Look at messages that are not tasks.

    What a worker cannot read is neither run nor lost: it is set aside with the reason.""",
    examples=[
        ("qctl quarantine ls", "what was set aside, newest first"),
        ("qctl quarantine show 17", "the bytes of one message"),
    ],
    exit_codes=(exits.NOT_FOUND,),
    subcommand_metavar="COMMAND [ARGUMENTS]...",
)


def _show_list(limit: int) -> None:
    out = current().out
    found = current().broker.quarantined(limit)
    items = [
        {"id": q.id, "queue": q.queue, "reason": q.reason, "at": stamp(q.at), "size": len(q.raw)}
        for q in found
    ]
    columns = [Column("ID"), Column("QUEUE"), Column("REASON"), Column("SET ASIDE"), Column("BYTES", True)]
    rows = [[str(v) for v in item.values()] for item in items]
    out.items("quarantine", items, columns, rows, "id")
    out.note(f"{count(len(items), 'message')} set aside")


def _show_one(message_id: str) -> None:
    out = current().out
    found = current().broker.quarantined(10_000)
    one = next((q for q in found if q.id == message_id), None)
    if one is None:
        near = nearest(message_id, [q.id for q in found])
        raise exits.Stop(
            exits.NOT_FOUND, f"no message '{message_id}' was set aside{near}", "see `qctl quarantine ls`"
        )
    text = one.raw.decode("utf-8", "backslashreplace")
    if out.for_people:
        out.text(text)
        out.note(f"from {one.queue}, set aside {stamp(one.at)}: {one.reason}")
    else:
        fields = {"id": one.id, "queue": one.queue, "reason": one.reason, "at": stamp(one.at), "raw": text}
        out.document("quarantine.message", fields)


command.add_command(
    Page(
        "ls",
        callback=_show_list,
        params=[
            click.Option(
                ["--limit"], type=click.IntRange(1), default=100, show_default=True, help="At most so many."
            )
        ],
        help="List what was set aside, newest first.",
        examples=[("qctl quarantine ls -o json", "for a program")],
        see_also=["quarantine show"],
    )
)
command.add_command(
    Page(
        "show",
        callback=_show_one,
        params=[click.Argument(["message_id"], metavar="ID")],
        help="Print one message as it came.",
        examples=[("qctl quarantine show 17 -o json", "with its queue and the reason")],
        exit_codes=(exits.NOT_FOUND,),
        see_also=["quarantine ls"],
    )
)
