"""`pool_shrink`: take slots away from the pool."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Arg, Slots, WorkerView, command


@command(
    "pool_shrink",
    kind="control",
    scope="admin",
    args=(Arg("n", int, False, 1, "how many"),),
    signature="[N=1]",
)
def pool_shrink(worker: WorkerView, n: Slots = 1, **_: Any) -> Any:
    """Take slots away from the pool."""
    worker.call("pool_shrink", n=n)
    return {"ok": "pool will shrink"}
