"""Convert a task of the event table to a record for filters and machine formats."""

from __future__ import annotations

from typing import Any

from qcore.base.times import epoch
from qcore.events.store.table import TaskSeen
from qcore.wire.identity import sent_at
from qctl.filters.fields import state_named


def record_of(task: TaskSeen, now: float | None = None) -> dict[str, Any]:
    """A record with the keys of filters/predicate.py; unknown values are None. now: epoch seconds, for the
    time that a running task has run so far."""
    began = task.started or task.received
    runtime_s = task.runtime
    if now is not None and task.state == "STARTED" and task.started is not None:
        runtime_s = max(now - task.started, 0.0)
    return {
        "id": task.uuid,
        "name": task.name or None,
        "state": state_named(task.state) or task.state.lower(),
        "queue": task.queue or None,
        "worker": task.worker or None,
        "exc": task.exception or None,
        "args": task.args or None,
        "kwargs": task.kwargs or None,
        "result": task.result or None,
        "runtime_s": runtime_s,
        "wait_s": waited_s(task.uuid, task.retries, task.sent, task.eta, began),
        "tries": task.retries + 1,
        "at": task.updated,
        "root_id": task.root_id or None,
    }


def waited_s(task_id: str, retries: int, sent: float | None, eta: str, began: float | None) -> float | None:
    """Seconds in a queue: from when the task was sent, or due if that is later, until it began. None: one of
    the times is unknown. A retry was sent again, which its id and the first event do not tell."""
    if began is None:
        return None
    try:
        due = epoch(eta) if eta else None
    except ValueError:
        due = None
    if retries:
        return None if due is None else max(began - due, 0.0)
    since = sent if sent is not None else sent_at(task_id)
    return None if since is None else max(began - max(since, due or 0.0), 0.0)
