"""`autoscale`: other bounds for a pool that scales itself."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Arg, WorkerView, command


@command(
    "autoscale",
    kind="control",
    scope="admin",
    args=(Arg("max", int, True, None, "slots at most"), Arg("min", int, True, None, "slots at least")),
    signature="<max> <min>",
)
def autoscale(worker: WorkerView, max: int, min: int, **_: Any) -> Any:
    """Set the bounds of a pool that scales itself (--autoscale)."""
    worker.call("autoscale", most=max, least=min)
    return {"ok": f"autoscale now max={max} min={min}"}
