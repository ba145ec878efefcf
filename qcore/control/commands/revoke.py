"""`revoke`: do not run these tasks."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command
from qcore.control.commands.query_task import where

MOST_IDS = 50_000


@command("revoke", kind="control", variadic="task_id", signature="<id1> [id2 [... [idN]]]")
def revoke(
    worker: WorkerView,
    task_id: str | list[str] | tuple[str, ...] = (),
    terminate: bool = False,
    signal: str | int = "TERM",
    **_: Any,
) -> Any:
    """Do not run these tasks.

    Besides Celery's `ok` the reply has `held`: of those ids that the worker has, the state.
    """
    ids = [task_id] if isinstance(task_id, str) else [str(i) for i in task_id]
    if len(ids) > MOST_IDS:
        raise ValueError(f"at most {MOST_IDS:,} ids in one request, not {len(ids):,}")
    if terminate:
        return {"ok": worker.call("terminate", task_ids=ids, signal=signal)}
    held = {task_id: state for task_id, (state, _) in where(worker, set(ids)).items()}
    worker.call("revoke", task_ids=ids)
    return {"ok": f"tasks {', '.join(ids)} flagged as revoked", "held": held}
