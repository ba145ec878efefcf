"""`qctl graph`: graphs of a fleet and of a worker's parts, as DOT text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qctl import exit_codes
from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.session import current
from qctl.fleet.silent_workers import report_silence
from qctl.output.writer import to_json

#: (part, the parts that must start before it)
PARTS = (
    ("pool", ()),
    ("consumer", ("pool",)),
    ("loop", ("consumer",)),
    ("keeper", ("consumer",)),
    ("events", ("keeper",)),
    ("control", ("events", "loop")),
)

command = CliGroup(
    "graph",
    help="Graphs of the fleet or of a worker, as DOT text.",
    examples=[("qctl graph workers | dot -Tsvg > fleet.svg", "workers and the queues they consume")],
    exit_codes=(exit_codes.NO_ANSWER,),
    subcommand_metavar="COMMAND",
    see_also=["inspect active_queues", "status"],
)


def _quoted(text: Any) -> str:
    return to_json(str(text))


def _print(name: str, lines: Iterable[str]) -> None:
    out = current().out
    out.text("\n".join([f"digraph {name} {{", "  rankdir=LR", *(f"  {line}" for line in lines), "}"]))


def _workers() -> int:
    session = current()
    timeout = session.options.timeout or 1.0
    answers = session.app.control.ask("active_queues", timeout_s=timeout)
    code = report_silence(session, answers, None, timeout)
    queues = {
        node: [q["name"] for q in reply if isinstance(q, dict) and "name" in q]
        for node, reply in sorted(answers.replies.items())
        if isinstance(reply, list)
    }
    if not session.out.for_people:
        session.out.document("graph.workers", {"queues": queues})
        return code
    lines = [f"{_quoted(node)} [shape=box]" for node in queues]
    lines += [f"{_quoted(q)} -> {_quoted(node)}" for node, names in queues.items() for q in names]
    _print("workers", lines)
    return code


def _parts() -> None:
    if not current().out.for_people:
        parts = [{"name": name, "needs": list(needs)} for name, needs in PARTS]
        current().out.document("graph.bootsteps", {"items": parts})
        return
    lines = [_quoted(name) for name, _ in PARTS]
    lines += [f"{_quoted(need)} -> {_quoted(name)}" for name, needs in PARTS for need in needs]
    _print("bootsteps", lines)


command.add_command(
    CliCommand(
        "workers",
        callback=_workers,
        params=[],
        help="Print which worker consumes which queues.",
        examples=[("qctl graph workers -o json", "for scripts")],
        exit_codes=(exit_codes.PARTIAL, exit_codes.NO_ANSWER),
        see_also=["inspect active_queues"],
    )
)
command.add_command(
    CliCommand(
        "bootsteps",
        callback=_parts,
        params=[],
        help="Print the parts of a worker, in the order in which they start.",
        examples=[("qctl graph bootsteps | dot -Tpng > parts.png", "as an image")],
        see_also=["graph workers"],
    )
)
