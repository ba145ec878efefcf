"""`qctl status`: the workers that are online."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from qctl import exits, theme
from qctl.bus import nodes
from qctl.output.table import Cell, Column
from qctl.output.text import age, count, software
from qctl.pages import command as page
from qctl.params import Destinations
from qctl.session import Session, current
from qctl.verdict import verdict

COLUMNS = [
    Column("WORKER", field="node"),
    Column("STATE"),
    Column("SEEN", True, "age_s"),
    Column("SOFTWARE"),
    Column("QUEUES"),
    Column("PID", True, wide=True),
]


@page(
    "status",
    examples=[
        ("qctl status", "every worker of the embedded broker"),
        ("qctl -b redis://host/0 status -o json", "for a program"),
        ("qctl status -o name | wc -l", "how many are there"),
        ("qctl status --all-contexts", "the workers of every fleet that has a name"),
    ],
    exit_codes={
        exits.OK: "every worker answered",
        exits.NOT_FOUND: "no worker of that name",
        exits.PARTIAL: "some workers are silent",
        exits.NO_ANSWER: "no worker is online",
    },
    see_also=["inspect ping", "inspect stats", "events"],
    lists=True,
)
@click.option(
    "-d", "--destination", type=Destinations(), multiple=True, help="Only these workers; globs are fine."
)
@click.option("--all-contexts", is_flag=True, help="Ask the fleets of all contexts at once.")
def command(destination: Sequence[list[str]], all_contexts: bool) -> int:
    """List the workers that are online.

    Workers that announced themselves and do not answer are listed as silent, with the time since
    their last sign of life.
    """
    session = current()
    timeout = session.options.timeout or 1.0
    whom = nodes(destination)
    if all_contexts:
        from qctl.everywhere import everywhere

        found, code = everywhere(session, whom, timeout, _items)
        rows = [[i["context"], *_row(session, i)] for i in found]
        session.out.items("status", found, [Column("CONTEXT"), *COLUMNS], rows, "node")
        return code
    answers = session.app.control.ask("ping", None, whom, timeout)
    items = _items(session, answers)
    stop = None
    try:
        code = verdict(session, answers, whom, timeout)
    except exits.Stop as exc:
        stop, code = exc, exc.code
    session.out.items("status", items, COLUMNS, [_row(session, i) for i in items], "node")
    if stop is not None:
        raise stop
    online = count(len(answers.replies), "worker")
    silent = f", {len(answers.silent)} silent" if answers.silent else ""
    session.out.note(f"{online} online{silent}")
    return code


def _items(session: Session, answers: Any) -> list[dict[str, Any]]:
    """One item for each worker that answered or should have."""
    members = {m.node: m for m in session.app.control.known()}
    ages = {s.node: s.age_s for s in answers.silent}
    items = []
    for node in sorted({*answers.replies, *ages}):
        member = members.get(node)
        info = member.info if member else {}
        items.append(
            {
                "node": node,
                "state": "silent" if node in ages else "online",
                "age_s": ages.get(node, 0.0),
                "software": software(info) or None,
                "pid": info.get("pid"),
                "queues": list(info.get("queues") or ()),
            }
        )
    return items


def _row(session: Session, item: dict[str, Any]) -> list[str | Cell]:
    import sys

    look = theme.look(item["state"])
    state = f"{theme.glyph(look, sys.stdout.encoding)} {look.word}"
    # Healthy rows stay uncoloured; colour is for what needs a person.
    colour = look.ansi if item["state"] != "online" else ""
    return [
        item["node"] or "-",
        Cell(state, colour),
        age(item["age_s"]) if item["node"] else "-",
        item["software"] or "-",
        ",".join(item["queues"]) or "-",
        str(item["pid"] or "-"),
    ]
