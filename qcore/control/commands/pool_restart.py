"""`pool_restart`: replace the processes of the pool, each after its task."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("pool_restart", kind="control", scope="admin")
def pool_restart(worker: WorkerView, modules: list[str] | None = None, reload: bool = False, **_: Any) -> Any:
    """Replace the processes of the pool, each after its task."""
    if reload or modules:
        raise ValueError("a running worker does not import or reload modules; restart it")
    worker.call("pool_restart")
    return {"ok": "reload started"}
