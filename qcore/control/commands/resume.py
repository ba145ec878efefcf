"""`resume`: go on after `drain`."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("resume", kind="control")
def resume(worker: WorkerView, **_: Any) -> Any:
    """Take tasks again after a drain."""
    return {"ok": worker.call("resume")}
