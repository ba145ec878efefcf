"""`enable_events`: send task events from now on."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("enable_events", kind="control")
def enable_events(worker: WorkerView, **_: Any) -> Any:
    """Send task events from now on."""
    return {"ok": worker.call("enable_events")}
