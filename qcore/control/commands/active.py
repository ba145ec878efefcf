"""`active`: running tasks."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("active", kind="inspect", alias="dump_active")
def active(worker: WorkerView, safe: bool = False, **_: Any) -> Any:
    """Running tasks."""
    tasks = worker.active()
    if safe:
        return [{**t, "args": repr(t["args"]), "kwargs": repr(t["kwargs"])} for t in tasks]
    return tasks
