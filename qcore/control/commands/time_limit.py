"""`time_limit`: set the soft and hard time limit of a task on the worker."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Arg, Name, Seconds, WorkerView, command


@command(
    "time_limit",
    kind="control",
    args=(Arg("task_name"), Arg("soft", float, help="seconds"), Arg("hard", float, False, None, "seconds")),
    signature="<task_name> <soft_secs> [hard_secs]",
)
def time_limit(
    worker: WorkerView, task_name: Name, hard: Seconds | None = None, soft: Seconds | None = None, **_: Any
) -> Any:
    """Set the soft and hard time limit of a task on the worker."""
    return {"ok": worker.call("time_limit", task_name=task_name, soft=soft, hard=hard)}
