"""`terminate`: stop these tasks even if they run."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Arg, Ids, SignalName, WorkerView, command
from qcore.control.commands.query_task import ids_of


@command(
    "terminate",
    kind="control",
    scope="admin",
    args=(Arg("signal", help="TERM, KILL, INT, …"),),
    variadic="task_id",
    signature="<signal> <id1> [id2 [... [idN]]]",
)
def terminate(worker: WorkerView, signal: SignalName, task_id: Ids = "", **_: Any) -> Any:
    """Stop these tasks even if they run."""
    ids = ids_of(task_id)
    return {"ok": worker.call("terminate", task_ids=ids, signal=signal)}
