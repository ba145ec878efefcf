"""`registered`: names of the tasks the worker knows, with chosen attributes."""

from __future__ import annotations

from typing import Any

from qcore.control.commands.base import WorkerView, command


@command(
    "registered",
    kind="inspect",
    alias="dump_tasks",
    variadic="taskinfoitems",
    signature="[attr1 [attr2 [... [attrN]]]]",
)
def registered(
    worker: WorkerView, taskinfoitems: list[str] | None = None, builtins: bool = False, **_: Any
) -> Any:
    """Names of the tasks the worker knows, with chosen attributes."""
    wanted = taskinfoitems or ["rate_limit"]

    def line(name: str, task: Any) -> str:
        found = [f"{a}={getattr(task, a)}" for a in wanted if getattr(task, a, None) is not None]
        return f"{name} [{' '.join(found)}]" if found else name

    tasks = worker.app.tasks
    return [line(n, tasks[n]) for n in sorted(tasks) if builtins or not n.startswith("celery.")]
