"""`control shutdown`: tell workers to stop, and see them go.

Workers that stop cannot answer, so the announcements they withdraw are the answer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qctl import exits, theme
from qctl.output import replies
from qctl.output.table import Cell, Column
from qctl.output.text import count
from qctl.session import Session
from qctl.verdict import verdict

if TYPE_CHECKING:
    from qcore.control.bus import Answers
    from qcore.control.commands.base import Command

PATIENCE_S = 10.0
REFUSAL_S = 0.25
LOOK_S = 0.1
COLUMNS = [Column("WORKER", field="node"), Column("STATE")]


def shut_down(
    session: Session, found: Command, arguments: dict[str, Any], whom: list[str] | None, wait: bool
) -> int:
    """Tell them, wait until they are gone (at most -t seconds, 10), report; the exit code."""
    control = session.app.control
    answers = control.ask("ping", None, whom, 1.0)
    try:
        code = _ignoring_silence(verdict(session, answers, whom, 1.0), answers)
    except exits.Stop:
        session.out.items("control.shutdown", [], COLUMNS, [], "node", heard=0)
        raise
    # A silent worker is told too: it may wake up and hear it.
    told = sorted({*answers.replies, *(s.node for s in answers.silent)})
    # Nobody answers this but those who refuse it, and they do so at once.
    said = control.ask(found.name, arguments, told if whom is not None else None, REFUSAL_S)
    heard, refused = said.heard, replies.errors(said)
    for node, words in refused.items():
        session.out.warn(f"{node} refused: {words}")
    if refused and not set(told) - set(refused):
        return exits.FAILED
    told = [node for node in told if node not in refused]
    known = {m.node for m in control.known()} & set(told)
    patience = session.options.timeout if session.options.timeout is not None else PATIENCE_S
    left = _wait(session, known, patience) if wait else known
    items = [{"node": node, "state": _state(node, known, left, wait)} for node in told]
    rows = [(i["node"], Cell(i["state"], theme.GONE.ansi if i["state"] == "gone" else "")) for i in items]
    session.out.items("control.shutdown", items, COLUMNS, rows, "node", heard=heard)
    session.out.note(f"{count(len(told), 'worker')} told to stop")
    if wait and left:
        session.out.warn(f"still there after {patience:g} s, finishing tasks: {', '.join(sorted(left))}")
        return exits.PARTIAL
    return exits.PARTIAL if refused else code


def _ignoring_silence(code: int, answers: Answers) -> int:
    return code if answers.silent or answers.unknown else exits.OK


def _wait(session: Session, nodes: set[str], patience: float) -> set[str]:
    """Those of `nodes` that are still there when patience ends."""
    deadline = time.monotonic() + patience
    left = set(nodes)
    while left:
        left = {m.node for m in session.app.control.known() if m.alive} & nodes
        if not left or time.monotonic() > deadline:
            break
        time.sleep(LOOK_S)
    return left


def _state(node: str, known: set[str], left: set[str], wait: bool) -> str:
    if not wait or node not in known:
        return "told"
    return "stopping" if node in left else "gone"
