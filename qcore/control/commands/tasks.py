"""Commands that act on tasks: revoke, terminate, rate and time limits."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import Arg, Ids, Name, Seconds, SignalName, WorkerView, command
from qcore.control.commands.inspect import ids_of, where

Stamp = str | int | float | bool | None


@command(
    "revoke_by_stamped_headers",
    kind="control",
    variadic="headers",
    signature="<key1=value1> [key2=value2 [... [keyN=valueN]]]",
)
def revoke_by_stamped_headers(
    worker: WorkerView,
    headers: dict[Name, Stamp | list[Stamp]] | list[Name] | None = None,
    terminate: bool = False,
    signal: SignalName = None,
    **_: Any,
) -> Any:
    """Revoke tasks that carry one of these stamps."""
    if isinstance(headers, list):
        pairs = [str(h).partition("=") for h in headers]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError("stamps are written key=value")
        headers = {key: value for key, _, value in pairs}
    if not isinstance(headers, dict) or not headers:
        raise ValueError("which stamps? write key=value")
    return {"ok": worker.revoke_stamps(stamps=headers, terminate=terminate, signal=signal)}


@command(
    "rate_limit",
    kind="control",
    args=(Arg("task_name"), Arg("rate_limit", help="5/s, 10/m, 100/h; 0 for none")),
    signature="<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
)
def rate_limit(worker: WorkerView, task_name: Name, rate_limit: Name | int | float | None, **_: Any) -> Any:
    """Set the rate limit of a task on the worker."""
    return {"ok": worker.rate_limit(task_name=task_name, rate_limit=rate_limit)}


@command("revoke", kind="control", variadic="task_id", signature="<id1> [id2 [... [idN]]]")
def revoke(
    worker: WorkerView,
    task_id: Ids = "",
    terminate: bool = False,
    signal: SignalName = None,
    **_: Any,
) -> Any:
    """Revoke tasks: they do not start any more.

    Besides Celery's `ok` the reply has `held`: the state of those of these ids that the worker holds.
    """
    ids = ids_of(task_id)
    if terminate:
        return {"ok": worker.terminate(task_ids=ids, signal=signal)}
    held = {task_id: state for task_id, (state, _) in where(worker, set(ids)).items()}
    worker.revoke(task_ids=ids)
    return {"ok": f"tasks {set(ids)} flagged as revoked", "held": held}


@command(
    "terminate",
    kind="control",
    scope="admin",
    args=(Arg("signal", help="TERM, KILL, INT, …"),),
    variadic="task_id",
    signature="<signal> <id1> [id2 [... [idN]]]",
)
def terminate(worker: WorkerView, signal: SignalName, task_id: Ids = "", **_: Any) -> Any:
    """Revoke tasks, and stop them if they run."""
    ids = ids_of(task_id)
    return {"ok": worker.terminate(task_ids=ids, signal=signal)}


@command(
    "time_limit",
    kind="control",
    args=(Arg("task_name"), Arg("soft", float, help="seconds"), Arg("hard", float, False, None, "seconds")),
    signature="<task_name> <soft_secs> [hard_secs]",
)
def time_limit(
    worker: WorkerView, task_name: Name, hard: Seconds | None = None, soft: Seconds | None = None, **_: Any
) -> Any:
    """Set the soft and hard time limit of a task on the worker."""
    return {"ok": worker.time_limit(task_name=task_name, soft=soft, hard=hard)}


@command("unrevoke", kind="control", variadic="task_id", signature="<id1> [id2 [... [idN]]]")
def unrevoke(worker: WorkerView, task_id: Ids = "", **_: Any) -> Any:
    """Undo a revoke on this worker; the tasks may run again."""
    ids = ids_of(task_id)
    worker.unrevoke(task_ids=ids)
    return {"ok": f"{len(ids)} ids are no longer revoked"}
