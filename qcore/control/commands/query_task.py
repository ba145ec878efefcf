"""`query_task`: where tasks of these ids are on the worker."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command("query_task", kind="inspect", variadic="ids", signature="<id1> [id2 [... [idN]]]")
def query_task(worker: WorkerView, ids: list[str] | tuple[str, ...] | str = (), **_: Any) -> Any:
    """Where tasks of these ids are on the worker."""
    return where(worker, {ids} if isinstance(ids, str) else set(ids))


def where(worker: WorkerView, wanted: set[str]) -> dict[str, list[Any]]:
    """[state, task] of those of these ids that the worker has: reserved, active or scheduled."""
    found: dict[str, list[Any]] = {}
    for state, tasks in (("reserved", worker.reserved()), ("active", worker.active())):
        found.update({t["id"]: [state, t] for t in tasks if t["id"] in wanted})
    for entry in worker.scheduled():
        if entry["request"]["id"] in wanted:
            found[entry["request"]["id"]] = ["scheduled", entry["request"]]
    return found
