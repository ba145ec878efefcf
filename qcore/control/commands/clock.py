"""`clock`: the logical clock of the worker."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("clock", kind="inspect")
def clock(worker: WorkerView, **_: Any) -> Any:
    """The logical clock of the worker."""
    return {"clock": worker.clock()}
