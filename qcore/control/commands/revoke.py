"""`revoke`: do not run these tasks."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Ids, SignalName, WorkerView, command
from qcore.control.commands.query_task import ids_of, where


@command("revoke", kind="control", variadic="task_id", signature="<id1> [id2 [... [idN]]]")
def revoke(
    worker: WorkerView,
    task_id: Ids = "",
    terminate: bool = False,
    signal: SignalName = None,
    **_: Any,
) -> Any:
    """Do not run these tasks.

    Besides Celery's `ok` the reply has `held`: of those ids that the worker has, the state.
    """
    ids = ids_of(task_id)
    if terminate:
        return {"ok": worker.call("terminate", task_ids=ids, signal=signal)}
    held = {task_id: state for task_id, (state, _) in where(worker, set(ids)).items()}
    worker.call("revoke", task_ids=ids)
    return {"ok": f"tasks {', '.join(ids)} flagged as revoked", "held": held}
