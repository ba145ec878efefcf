"""Wait for the result of a task; on a terminal, one line on stderr shows its state.

In:  a task id and a time-out.  Out: its ResultMeta, or None after the time-out; Ctrl-C raises
CommandError with the command that goes on waiting.  Before this: `call --wait` and `result --wait`.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from qctl import exit_codes
from qctl.output import state_styles
from qctl.output.text import age, shown

if TYPE_CHECKING:
    from qcore.wire.result import ResultMeta
    from qctl.cli.session import Session

#: seconds before the line is first drawn: most tasks have ended by then
QUIET_S = 0.3
DRAW_S = 0.1
#: seconds between two queries of the result store and the workers, and the time-out of a query
ASK_EVERY_S = 2.0
ASK_S = 0.2
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PLAIN_SPINNER = "|/-\\"
#: states in Celery's query_task replies, and the tools' words for them
STATES = {"active": "running", "reserved": "reserved", "scheduled": "delayed", "ready": "queued"}


def await_result(session: Session, task_id: str, timeout_s: float | None) -> ResultMeta | None:
    """The ResultMeta of the ended task; None after `timeout_s` (None: no time-out)."""
    try:
        if not sys.stderr.isatty() or session.options.quiet or not session.out.for_people:
            return session.app.results.wait(task_id, timeout_s)
        return _drawn(session, task_id, timeout_s)
    except KeyboardInterrupt:
        raise exit_codes.CommandError(
            exit_codes.INTERRUPTED,
            f"stopped waiting; the task {task_id} continues",
            f"`qctl result {task_id} --wait` continues to wait, `qctl control revoke {task_id}` cancels it",
        ) from None


def _drawn(session: Session, task_id: str, timeout_s: float | None) -> ResultMeta | None:
    results, started = session.app.results, time.monotonic()
    until = float("inf") if timeout_s is None else started + timeout_s
    meta = results.wait(task_id, min(QUIET_S, until - started))
    state, asked, turn = "", 0.0, 0
    try:
        while meta is None and (now := time.monotonic()) < until:
            if now - asked >= ASK_EVERY_S:
                state, asked = _state(session, task_id), now
            _draw(state, now - started, turn)
            turn += 1
            meta = results.wait(task_id, min(DRAW_S, until - now))
    finally:
        if turn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
    return meta


def _draw(state: str, elapsed_s: float, turn: int) -> None:
    is_unicode = (sys.stderr.encoding or "").lower().replace("-", "") == "utf8"
    spinner = SPINNER if is_unicode else PLAIN_SPINNER
    sys.stderr.write(f"\r\x1b[K{spinner[turn % len(spinner)]} {shown(state)}, {age(elapsed_s)}")
    sys.stderr.flush()


def _state(session: Session, task_id: str) -> str:
    """The state of the task in the tools' words, and the worker that holds it."""
    (meta,) = session.app.results.get([task_id])
    if meta is not None and meta.status not in ("PENDING", "STARTED"):
        return state_styles.look(meta.status).word  # also a custom state of the task
    answers = session.app.control.ask("query_task", {"ids": [task_id]}, timeout_s=ASK_S)
    for node, reply in answers.replies.items():
        found = reply.get(task_id) if isinstance(reply, dict) else None
        if isinstance(found, list) and found:
            return f"{STATES.get(str(found[0]), str(found[0]))} on {node}"
    return "running" if meta is not None and meta.status == "STARTED" else "queued"
