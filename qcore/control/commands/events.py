"""Commands that enable and disable a worker's events."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("enable_events", kind="control")
def enable_events(worker: WorkerView, **_: Any) -> Any:
    """Enable task events."""
    return {"ok": worker.enable_events()}


@command("disable_events", kind="control")
def disable_events(worker: WorkerView, **_: Any) -> Any:
    """Disable task events."""
    return {"ok": worker.disable_events()}


@command("heartbeat", kind="control")
def heartbeat(worker: WorkerView, **_: Any) -> Any:
    """Send a heartbeat event."""
    worker.heartbeat()
    return None
