"""Commands that enable and disable a worker's events."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("enable_events", kind="control")
def enable_events(worker: WorkerView, **_: Any) -> Any:
    """Send task events from now on."""
    return {"ok": worker.enable_events()}


@command("disable_events", kind="control")
def disable_events(worker: WorkerView, **_: Any) -> Any:
    """Send no task events any more."""
    return {"ok": worker.disable_events()}


@command("heartbeat", kind="control")
def heartbeat(worker: WorkerView, **_: Any) -> Any:
    """Send one heartbeat event now."""
    worker.heartbeat()
    return None
