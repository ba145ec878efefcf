"""`control shutdown`: shut workers down, and wait until they are gone.

A worker that shuts down sends no reply, so its withdrawn announcement counts as the reply.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from qctl import exit_codes
from qctl.cli.confirm import ask
from qctl.cli.session import Session
from qctl.fleet.silent_workers import report_silence
from qctl.output import replies, state_styles
from qctl.output.table import Cell, Column
from qctl.output.text import count

if TYPE_CHECKING:
    from qcore.control.client import Answers
    from qcore.control.commands.base import Command

PATIENCE_S = 10.0
REFUSAL_S = 0.25
LOOK_S = 0.1
#: patterns of -d that select the whole fleet
ALL_WORKERS = {"*", "*@*"}
COLUMNS = [Column("WORKER", field="node"), Column("STATE")]


class ShutdownOptions(NamedTuple):
    """Options of a shutdown."""

    wait: bool = True  # until the workers are gone
    yes: bool = False  # without confirmation
    dry_run: bool = False  # only report which workers would be shut down


def shut_down(
    session: Session,
    found: Command,
    arguments: dict[str, Any],
    destination: list[str] | None,
    options: ShutdownOptions,
) -> int:
    """Send the request, wait until the workers are gone (-t, else 10 s), report; return the exit code."""
    control = session.app.control
    answers = control.ask("ping", None, destination, 1.0)
    try:
        code = _ignoring_silence(report_silence(session, answers, destination, 1.0), answers)
    except exit_codes.CommandError:
        _print(session, [], 0)
        raise
    # Silent workers get the request too: they may process it later.
    recipients = sorted({*answers.replies, *(s.node for s in answers.silent)})
    if options.dry_run:
        _print(session, [{"node": node, "state": "untold"} for node in recipients], 0)
        session.out.note(f"nothing was sent (--dry-run); {count(len(recipients), 'worker')} would be stopped")
        return code
    if destination is None or ALL_WORKERS & set(destination):
        name = session.context.name if session.context else "all"
        ask(f"{count(len(recipients), 'worker')}, the whole fleet,", "asked to stop", options.yes, name)
    wait = options.wait
    present = _present(session, alive=False)  # read before the request: Celery's workers leave no trace
    # Only a worker that refuses sends a reply, and it does so at once.
    replied = control.ask(found.name, arguments, recipients if destination is not None else None, REFUSAL_S)
    heard, refused = replied.heard, replies.errors(replied)
    for node, words in refused.items():
        session.out.warn(f"{node} refused: {words}")
    if refused and not set(recipients) - set(refused):
        return exit_codes.FAILED
    recipients = [node for node in recipients if node not in refused]
    known = present & set(recipients)
    patience = session.options.timeout if session.options.timeout is not None else PATIENCE_S
    left = _wait(session, known, patience) if wait else known
    items = [{"node": node, "state": _state(node, known, left, wait)} for node in recipients]
    _print(session, items, heard)
    session.out.note(f"{count(len(recipients), 'worker')} asked to stop")
    silent = {s.node for s in answers.silent}
    if wait and silent and silent <= known - left:
        code = exit_codes.OK  # they were slow, not silent: they took the request and are gone
    if wait and left:
        session.out.warn(f"still running after {patience:g} s, finishing tasks: {', '.join(sorted(left))}")
        return exit_codes.PARTIAL
    return exit_codes.PARTIAL if refused else code


def _print(session: Session, items: list[dict[str, Any]], heard: int | None) -> None:
    rows = [
        (i["node"], Cell(i["state"], state_styles.GONE.ansi if i["state"] == "gone" else "")) for i in items
    ]
    session.out.items("control.shutdown", items, COLUMNS, rows, "node", heard=heard)


def _ignoring_silence(code: int, answers: Answers) -> int:
    return code if answers.silent or answers.unknown else exit_codes.OK


def _wait(session: Session, nodes: set[str], patience: float) -> set[str]:
    """The workers of `nodes` that are still present after `patience` seconds."""
    deadline = time.monotonic() + patience
    left = set(nodes)
    while left:
        left = _present(session) & nodes
        if not left or time.monotonic() > deadline:
            break
        time.sleep(LOOK_S)
    return left


def _present(session: Session, alive: bool = True) -> set[str]:
    """Workers with an announcement, and Celery's workers with a subscription to control requests."""
    members, others = session.broker.roster()
    return {*(m.node for m in members if m.alive or not alive), *others}


def _state(node: str, known: set[str], left: set[str], wait: bool) -> str:
    if not wait or node not in known:
        return "told"
    return "stopping" if node in left else "gone"
