"""`reserved`: tasks held by the worker and not started."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("reserved", kind="inspect", alias="dump_reserved")
def reserved(worker: WorkerView, **_: Any) -> Any:
    """Tasks held by the worker and not started."""
    return worker.reserved()
