"""`query_task`: where tasks of these ids are on the worker."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import MOST_IDS, Ids, WorkerView, command


@command("query_task", kind="inspect", variadic="ids", signature="<id1> [id2 [... [idN]]]")
def query_task(worker: WorkerView, ids: Ids = "", **_: Any) -> Any:
    """Where tasks of these ids are on the worker."""
    return where(worker, set(ids_of(ids)))


def ids_of(said: str | list[str]) -> list[str]:
    """The ids in an argument that holds one or several; raises ValueError for too many."""
    ids = [said] if isinstance(said, str) else said
    if len(ids) > MOST_IDS:
        raise ValueError(f"at most {MOST_IDS:,} ids in one request, not {len(ids):,}")
    return [one for one in ids if one]


def where(worker: WorkerView, wanted: set[str]) -> dict[str, list[Any]]:
    """[state, task] of those of these ids that the worker has: reserved, active or scheduled."""
    found: dict[str, list[Any]] = {}
    for state, tasks in (("reserved", worker.reserved()), ("active", worker.active())):
        found.update({t["id"]: [state, t] for t in tasks if t["id"] in wanted})
    for entry in worker.scheduled():
        if entry["request"]["id"] in wanted:
            found[entry["request"]["id"]] = ["scheduled", entry["request"]]
    return found
