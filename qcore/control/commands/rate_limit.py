"""`rate_limit`: set how often a task may start on the worker."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Arg, Name, WorkerView, command


@command(
    "rate_limit",
    kind="control",
    args=(Arg("task_name"), Arg("rate_limit", help="5/s, 10/m, 100/h; 0 for none")),
    signature="<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
)
def rate_limit(worker: WorkerView, task_name: Name, rate_limit: Name | int | float | None, **_: Any) -> Any:
    """Set how often a task may start on the worker."""
    return {"ok": worker.call("rate_limit", task_name=task_name, rate_limit=rate_limit)}
