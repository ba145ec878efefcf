"""`disable_events`: send no task events any more."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("disable_events", kind="control")
def disable_events(worker: WorkerView, **_: Any) -> Any:
    """Send no task events any more."""
    return {"ok": worker.call("disable_events")}
