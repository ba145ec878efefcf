"""`drain`: stop taking tasks without leaving."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("drain", kind="control")
def drain(worker: WorkerView, **_: Any) -> Any:
    """Take no more tasks, give back those that wait, let the others finish."""
    return {"ok": worker.call("drain")}
