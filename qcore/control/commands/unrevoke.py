"""`unrevoke`: run these tasks after all."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Ids, WorkerView, command
from qcore.control.commands.query_task import ids_of


@command("unrevoke", kind="control", variadic="task_id", signature="<id1> [id2 [... [idN]]]")
def unrevoke(worker: WorkerView, task_id: Ids = "", **_: Any) -> Any:
    """Run these tasks after all, as far as this worker is concerned."""
    ids = ids_of(task_id)
    worker.call("unrevoke", task_ids=ids)
    return {"ok": f"{len(ids)} ids are revoked no more"}
