"""`shutdown`: stop the worker; running tasks finish first."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("shutdown", kind="control", scope="admin", replies=False)
def shutdown(worker: WorkerView, **_: Any) -> Any:
    """Stop the worker; running tasks finish first."""
    worker.call("shutdown")
    return None
