"""`report`: versions, platform and settings of the worker, for bug reports."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("report", kind="inspect")
def report(worker: WorkerView, **_: Any) -> Any:
    """Versions, platform and settings of the worker, for bug reports."""
    return {"ok": worker.app.bugreport()}
