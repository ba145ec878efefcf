"""`qctl status`: the workers that are online."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.session import Session, current
from qctl.cli.types import Destinations
from qctl.commands.remote.group import nodes
from qctl.fleet.silent_workers import report_silence
from qctl.fleet.worker_facts import WorkerFacts, facts_of
from qctl.output import state_styles
from qctl.output.csv_fields import fields_of
from qctl.output.table import Cell, Column
from qctl.output.text import age, count, software

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.control.client import Answers

#: time-out of the further queries to Celery's workers
ASK_S = 1.0
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
        ("qctl -b redis://host/0 status -o json", "for scripts"),
        ("qctl status --all", "including workers that are gone"),
        ("qctl status -o name | wc -l", "the number of workers"),
        ("qctl status --all-contexts", "the workers of the fleets of all contexts"),
    ],
    exit_codes={
        exit_codes.OK: "every worker answered",
        exit_codes.NOT_FOUND: "no worker of that name",
        exit_codes.PARTIAL: "some workers are silent",
        exit_codes.NO_ANSWER: "no worker is online",
    },
    see_also=["inspect ping", "inspect stats", "events"],
    lists=True,
)
@click.option(
    "-a", "--all", "everybody", is_flag=True, help="Include workers that left within the last hour."
)
@click.option(
    "-d", "--destination", type=Destinations(), multiple=True, help="Only these workers, by name or glob."
)
@click.option("--all-contexts", is_flag=True, help="Query the fleets of all contexts at once.")
def command(destination: Sequence[list[str]], everybody: bool, all_contexts: bool) -> int:
    """List the workers that are online.

    Workers that announced themselves and do not answer are listed as silent, with the time since their
    last heartbeat. One without a heartbeat for three intervals is gone; --all lists it for an hour. A
    worker that shut down in order is removed at once and not listed.
    """
    session = current()
    timeout = session.options.timeout or 1.0
    chosen_nodes = nodes(destination)
    if all_contexts:
        from qctl.fleet.all_contexts import everywhere

        found, code = everywhere(session, chosen_nodes, timeout, _items)
        rows = [[i["context"], *_row(session, i)] for i in found]
        session.out.items(
            "status", found, [Column("CONTEXT"), *COLUMNS], rows, "node", ["context", *fields_of("status")]
        )
        return code
    answers = session.app.control.ask("stats", None, chosen_nodes, timeout)
    items = _items(session.app, answers)
    if everybody:
        items += _gone(answers, chosen_nodes)
    stop = None
    try:
        code = report_silence(session, answers, chosen_nodes, timeout)
    except exit_codes.CommandError as exc:
        stop, code = exc, exc.code
    session.out.items("status", items, COLUMNS, [_row(session, i) for i in items], "node")
    if stop is not None:
        raise stop
    online = count(len(answers.replies), "worker")
    silent = f", {len(answers.silent)} silent" if answers.silent else ""
    session.out.note(f"{online} online{silent}")
    return code


def _items(app: App, answers: Answers) -> list[dict[str, Any]]:
    """One item for each worker that answered or is silent."""
    members, facts = answers.members, facts_of(app, answers, ASK_S)
    ages = {s.node: s.age_s for s in answers.silent}
    twins = answers.twins
    items = []
    for node in sorted({*answers.replies, *ages}):
        member = members.get(node)
        found = facts.get(node, WorkerFacts())
        state = "silent" if node in ages else "draining" if found.state == "draining" else "online"
        item = _item(node, state, ages.get(node, 0.0), member.info if member else {}, twins)
        item["software"] = item["software"] or found.software
        item["pid"] = item["pid"] or found.pid
        if not item["queues"] and found.queues is not None:
            item["queues"] = list(found.queues)
        items.append(item)
    return items


def _item(
    node: str, state: str, age_s: float | None, info: dict[str, Any], twins: dict[str, list[str]]
) -> dict[str, Any]:
    return {
        "node": node,
        "state": state,
        "age_s": age_s,
        "software": software(info) or None,
        "pid": info.get("pid"),
        "host": info.get("host"),
        "twins": twins.get(node, []),
        "queues": list(info["queues"]) if isinstance(info.get("queues"), list) else None,
    }


def _gone(answers: Any, chosen_nodes: list[str] | None) -> list[dict[str, Any]]:
    """Workers whose announcement has expired; they get no request."""
    now = answers.now
    return [
        _item(node, "gone", now - member.seen_at, member.info, {})
        for node, member in sorted(answers.members.items())
        if not member.alive
        and node not in answers.replies
        and (chosen_nodes is None or any(fnmatch.fnmatchcase(node, w) for w in chosen_nodes))
    ]


def _row(session: Session, item: dict[str, Any]) -> list[str | Cell]:
    import sys

    look = state_styles.look(item["state"])
    twice = ", twice" if item["twins"] else ""
    state = f"{state_styles.glyph(look, sys.stdout.encoding)} {look.word}{twice}"
    # Healthy rows stay uncoloured; colour marks rows that need attention.
    colour = look.ansi if item["state"] != "online" else "33" if twice else ""
    return [
        item["node"] or "-",
        Cell(state, colour),
        age(item["age_s"]) if item["node"] else "-",
        item["software"] or "-",
        ",".join(item["queues"] or ()) or "-",
        str(item["pid"] or "-"),
    ]
