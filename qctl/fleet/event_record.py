"""Convert a task of the event table to a record for filters and machine formats."""

from __future__ import annotations

from typing import Any

from qcore.events.store.table import TaskSeen
from qctl.filters.fields import state_named


def record_of(task: TaskSeen) -> dict[str, Any]:
    """A record with the keys of filters/predicate.py; unknown values are None."""
    began = task.started or task.received
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
        "runtime_s": task.runtime,
        "wait_s": None if task.sent is None or began is None else max(began - task.sent, 0.0),
        "tries": task.retries + 1,
        "at": task.updated,
        "root_id": task.root_id or None,
    }
