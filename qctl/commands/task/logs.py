"""`qctl task logs`: print the log lines of a task, and follow new ones.

In:  a task id.  Out: its log lines, as the broker keeps them (qcore/worker/process/task_logs.py).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from qcore.errors import BrokerDown
from qctl import exit_codes
from qctl.cli.session import Session, current
from qctl.output.secrets import hide
from qctl.output.table import Cell, Column
from qctl.output.text import shown_lines

COLUMNS = [Column("AT"), Column("LEVEL"), Column("TEXT")]
EVERY_S = 0.3
#: seconds to go on reading after the task has ended: lines may still be in transit
AFTER_S = 0.6
ENDED = ("succeeded", "failed", "revoked", "rejected")


#: return what is known of a task and the sources; raises CommandError when no source has it
Find = Callable[[Session, str], tuple[dict[str, Any], list[str]]]


def logs(task_id: str, follow: bool, one: Find) -> int:
    session = current()
    lines = _fresh(session, task_id, set())
    if not lines:
        one(session, task_id)  # raises CommandError when no source has the task
    if follow:
        return _follow(session, task_id, one)
    rows: list[list[str | Cell]] = [[i["at"], i["level"], i["text"]] for i in lines]
    if session.out.for_people:
        for line in lines:
            _print(session, line)
    else:
        session.out.items("task.logs", lines, COLUMNS, rows, "text")
    if not lines:
        session.out.note("it has logged nothing, or its lines have expired")
    return exit_codes.OK


def _follow(session: Session, task_id: str, one: Find) -> int:
    """Print new lines until the task has ended, or Ctrl-C; retry while the broker is unreachable."""
    if not (session.out.for_people or session.out.as_objects):
        raise exit_codes.CommandError(
            exit_codes.USAGE, "-f prints lines as they arrive", "use it with -o ndjson, or without -o"
        )
    session.patient = True
    seen: set[str] = set()
    ends: float | None = None
    away = False
    try:
        while True:
            try:
                for line in _fresh(session, task_id, seen):
                    _print(session, line)
                if ends is None and _has_ended(session, task_id, one):
                    ends = time.monotonic() + AFTER_S
                away = False
            except BrokerDown as exc:
                if not away:
                    session.out.warn(f"{exc}; trying again")
                away = True
            if ends is not None and time.monotonic() > ends:
                return exit_codes.OK
            time.sleep(EVERY_S)
    except KeyboardInterrupt:
        return exit_codes.OK


def _has_ended(session: Session, task_id: str, one: Find) -> bool:
    try:
        record, _ = one(session, task_id)
    except exit_codes.CommandError:
        return True  # no source has the task any more, and no result is kept
    return record.get("state") in ENDED


def _fresh(session: Session, task_id: str, seen: set[str]) -> list[dict[str, Any]]:
    """Lines whose identity is not in `seen`; add them to it."""
    found = []
    for raw in session.broker.task_logs.of(task_id):
        line = json.loads(raw)
        if line["line"] not in seen:
            seen.add(line["line"])
            found.append({k: hide(v, k) for k, v in line.items() if k != "line"})
    return found


def _print(session: Session, line: dict[str, Any]) -> None:
    if session.out.as_objects:
        session.out.objects([line])
    else:
        session.out.text(f"{line['at']}  {line['level']:<7}  {shown_lines(line['text'])}")
    sys.stdout.flush()
