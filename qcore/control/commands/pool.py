"""Commands that change the size of the worker pool, and end the worker."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Arg, Name, Slots, WorkerView, command


@command(
    "pool_grow", kind="control", scope="admin", args=(Arg("n", int, False, 1, "how many"),), signature="[N=1]"
)
def pool_grow(worker: WorkerView, n: Slots = 1, **_: Any) -> Any:
    """Add slots to the pool."""
    worker.pool_grow(n=n)
    return {"ok": "pool will grow"}


@command(
    "autoscale",
    kind="control",
    scope="admin",
    args=(Arg("max", int, True, None, "slots at most"), Arg("min", int, True, None, "slots at least")),
    signature="<max> <min>",
)
def autoscale(worker: WorkerView, max: int, min: int, **_: Any) -> Any:
    """Set the bounds of a pool that scales itself (--autoscale)."""
    worker.autoscale(most=max, least=min)
    return {"ok": f"autoscale now max={max} min={min}"}


@command("pool_restart", kind="control", scope="admin")
def pool_restart(
    worker: WorkerView, modules: list[Name] | None = None, reload: bool = False, **_: Any
) -> Any:
    """Replace the processes of the pool, each after its task.

    modules: import them first, in the worker and in its new processes; reload: import those again that are
    loaded, without `modules` all that the app imports. Both need the setting worker_pool_restarts.
    """
    worker.pool_restart(modules=modules, reload=reload)
    return {"ok": "reload started"}


@command(
    "pool_shrink",
    kind="control",
    scope="admin",
    args=(Arg("n", int, False, 1, "how many"),),
    signature="[N=1]",
)
def pool_shrink(worker: WorkerView, n: Slots = 1, **_: Any) -> Any:
    """Remove slots from the pool."""
    worker.pool_shrink(n=n)
    return {"ok": "pool will shrink"}


@command("shutdown", kind="control", scope="admin", replies=False)
def shutdown(worker: WorkerView, **_: Any) -> Any:
    """Stop the worker; running tasks finish first."""
    worker.shutdown()
    return None
