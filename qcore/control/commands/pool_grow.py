"""`pool_grow`: add slots to the pool."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Arg, Slots, WorkerView, command


@command(
    "pool_grow", kind="control", scope="admin", args=(Arg("n", int, False, 1, "how many"),), signature="[N=1]"
)
def pool_grow(worker: WorkerView, n: Slots = 1, **_: Any) -> Any:
    """Add slots to the pool."""
    worker.call("pool_grow", n=n)
    return {"ok": "pool will grow"}
