"""`terminate`: stop these tasks even if they run."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Arg, WorkerView, command


@command(
    "terminate",
    kind="control",
    scope="admin",
    args=(Arg("signal", help="TERM, KILL, INT, …"),),
    variadic="task_id",
    signature="<signal> <id1> [id2 [... [idN]]]",
)
def terminate(
    worker: WorkerView, signal: str | int, task_id: str | list[str] | tuple[str, ...] = (), **_: Any
) -> Any:
    """Stop these tasks even if they run."""
    ids = [task_id] if isinstance(task_id, str) else [str(i) for i in task_id]
    return {"ok": worker.call("terminate", task_ids=ids, signal=signal)}
