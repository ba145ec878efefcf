"""`qctl health`: probes of a worker or a fleet, for orchestrators and people."""

from __future__ import annotations

from collections.abc import Sequence

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.session import Session, current
from qctl.cli.types import Destinations
from qctl.commands.health.local_probe import probe
from qctl.commands.remote.group import nodes
from qctl.output.table import Column
from qctl.output.text import count

CODES = {
    exit_codes.OK: "fit",
    exit_codes.NOT_MET: "unhealthy; the reason is printed",
    exit_codes.NOT_FOUND: "no worker of that name",
    exit_codes.UNAVAILABLE: "without --local: the broker cannot be reached",
}


@page(
    "health",
    examples=[
        ("qctl health --local --live", "a liveness probe: about 30 ms, no broker, no app"),
        ("qctl health --local --ready", "a readiness probe; fails while the broker is unreachable"),
        ("qctl health", "the fleet: broker, workers, and a consumer for every queue"),
        ("qctl health -d w1@host", "one worker, by a control request"),
    ],
    exit_codes=CODES,
    see_also=["status", "doctor", "wait"],
)
@click.option("--local", is_flag=True, help="Check this user's workers on this host by their pulse files.")
@click.option("--live", "kind", flag_value="live", help="Liveness: fails while the worker's loop is stuck.")
@click.option(
    "--ready",
    "kind",
    flag_value="ready",
    default="ready",
    help="Readiness: the worker consumes tasks. [default]",
)
@click.option("--startup", "kind", flag_value="startup", help="Startup: the worker has started.")
@click.option("-d", "--destination", type=Destinations(), multiple=True, help="Only these workers.")
def command(local: bool, kind: str, destination: Sequence[list[str]]) -> int:
    """Check that workers are healthy: exit code 0 or 6.

    With --local no request is sent: each iteration of a worker's loop writes its time to a small file. A
    worker without its broker is unready, not dead. One whose loop has made no iteration for 20 s, or that
    is idle and has made no claim for 20 s, is dead. (A solo worker's loop stands still while its task
    runs; its file cannot show that.) Without --local the broker and the workers are queried.
    """
    session = current()
    chosen_nodes = nodes(destination)
    if local or kind in ("live", "startup"):
        return probe(
            kind, chosen_nodes or [], session.out.format in ("json", "ndjson"), session.options.quiet
        )
    return _fleet(session, chosen_nodes)


def _fleet(session: Session, chosen_nodes: list[str] | None) -> int:
    """Query the broker and the workers; print one line for each."""
    broker = session.broker
    broker.check()
    answers = session.app.control.ask("active_queues", None, chosen_nodes, session.options.timeout or 1.0)
    taken = {
        q.get("name")
        for reply in answers.replies.values()
        if isinstance(reply, list)
        for q in reply
        if isinstance(q, dict) and not q.get("paused")
    }
    queues, idle = broker.administration, list[str]()
    if chosen_nodes is None:
        idle = [q for q in queues.queues() if q not in taken and queues.depth(q).ready]
    items = [{"what": "broker", "ok": True, "why": ""}]
    for silent in answers.silent:
        items.append({"what": silent.node, "ok": False, "why": "it does not answer"})
    items += [{"what": name, "ok": False, "why": "no such worker"} for name in answers.unknown]
    items += [{"what": node, "ok": True, "why": ""} for node in sorted(answers.replies)]
    items += [
        {"what": f"queue {q}", "ok": False, "why": "messages wait and no worker consumes it"} for q in idle
    ]
    if not answers.replies and not answers.unknown:
        items.append({"what": "workers", "ok": False, "why": "no worker is online"})
    rows = [[str(i["what"]), "ok" if i["ok"] else str(i["why"])] for i in items]
    session.out.items("health", items, [Column("WHAT"), Column("HEALTH")], rows, "what")
    bad = sum(not i["ok"] for i in items)
    if answers.unknown and not answers.replies:
        return exit_codes.NOT_FOUND
    if bad:
        session.out.note(f"{count(bad, 'thing')} unhealthy")
    return exit_codes.NOT_MET if bad else exit_codes.OK
