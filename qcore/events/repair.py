"""Correct the state from the workers' answers: events may be lost, answers are authoritative.

In:  a State, and the tasks that answering workers hold.  Out: the State without tasks that no worker holds.
A task that is received or started in the table, of a worker that answered without it, has ended: its state
is that of its result, where there is one; else ENDED. A later event of its end still applies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from qcore.events.state import State
from qcore.events.store.columns import BITS, MASK
from qcore.events.store.table import CODE_OF, ENDED, TaskTable

OPEN = frozenset(("RECEIVED", "STARTED"))
_KIND_OF = {"SUCCESS": "task-succeeded", "FAILURE": "task-failed", "REVOKED": "task-revoked"}


class HeldTasks(NamedTuple):
    """A task that a worker reports as held."""

    task_id: str
    node: str
    runs: bool  # else it waits there
    since: float | None = None  # epoch seconds, when it started
    name: str = ""


def repair(
    state: State,
    held: Sequence[HeldTasks],
    answered: Sequence[str],
    asked_at: float,
    ends: Callable[[Sequence[str]], Mapping[str, str]] | None = None,
) -> int:
    """Returns the number of corrected tasks.

    answered: the nodes whose answers are in `held`; tasks of other nodes are not changed. asked_at: epoch
    seconds, our clock, before the request; later changes are kept too, so clocks of workers may be
    behind ours, not ahead. ends(ids): the final states of those that have a result.
    """
    table, there, put_right = state.table, set(answered), 0
    known = {task.task_id: task for task in held}
    theirs = table.workers.where(there.__contains__)
    lost = []
    for row in list(table.search(states=OPEN)):
        chunk, place = table.chunks[row >> BITS], row & MASK
        if chunk.workers[place] in theirs and chunk.updated[place] < asked_at:
            task = table.task(row)
            if task.uuid not in known:
                lost.append(task)
    found = ends([task.uuid for task in lost]) if ends is not None and lost else {}
    for task in lost:
        kind = _KIND_OF.get(found.get(task.uuid, ""))
        table.settle(task.uuid, ENDED if kind is None else CODE_OF[kind])
        put_right += 1
    for has in held:
        put_right += _add(table, has, asked_at)
    return put_right


def _add(table: TaskTable, has: HeldTasks, asked_at: float) -> bool:
    """Add a task whose start event was missed."""
    task = table.get(has.task_id)
    kind = "task-started" if has.runs else "task-received"
    if task is not None and (task.is_ready or task.updated >= asked_at):
        return False
    if task is not None and task.state in ("STARTED", "RECEIVED" if not has.runs else "STARTED"):
        return False
    event = {"type": kind, "hostname": has.node, "timestamp": has.since or asked_at, "name": has.name}
    if task is None and has.runs:
        # Only the task-received event contains the name.
        table.take(CODE_OF["task-received"], event, has.task_id)
    table.take(CODE_OF[kind], event, has.task_id)
    return True
