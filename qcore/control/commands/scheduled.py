"""`scheduled`: tasks waiting for their time on the worker's queues."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("scheduled", kind="inspect", alias="dump_schedule")
def scheduled(worker: WorkerView, **_: Any) -> Any:
    """Tasks waiting for their time on the worker's queues."""
    return worker.scheduled()
