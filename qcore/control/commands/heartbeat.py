"""`heartbeat`: send one heartbeat event now."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("heartbeat", kind="control")
def heartbeat(worker: WorkerView, **_: Any) -> Any:
    """Send one heartbeat event now."""
    worker.call("heartbeat")
    return None
