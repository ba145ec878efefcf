"""Tasks that workers hold: running, reserved, or delayed.

In:  an app.  Out: one HeldTask for each task, from the workers that answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.wire.event import moment

if TYPE_CHECKING:
    from qcore.app.app import App

ASK_S = 1.0
#: control command -> the tools' word for the state
_QUESTIONS = {"reserved": "reserved", "scheduled": "delayed", "active": "running"}
#: ids per control request
MOST_IDS = 5000


class HeldTask(NamedTuple):
    """A task that a worker holds."""

    id: str
    name: str
    queue: str
    state: str  # running, reserved, delayed
    worker: str
    args: Any = None
    kwargs: Any = None
    started_at: float | None = None

    def record(self) -> dict[str, Any]:
        """A record for filters."""
        return {**self._asdict(), "root_id": None}


class TasksAtWorkers(NamedTuple):
    """The tasks found; silent: names of the workers that did not answer."""

    tasks: list[HeldTask]
    silent: list[str]


def everything(app: App, timeout_s: float = ASK_S) -> TasksAtWorkers:
    """All tasks that workers hold."""
    found: dict[tuple[str, str], HeldTask] = {}
    silent: set[str] = set()
    for command, state in _QUESTIONS.items():
        answers = app.control.ask(command, timeout_s=timeout_s)
        silent.update(s.node for s in answers.silent)
        for worker, tasks in answers.replies.items():
            for task in tasks if isinstance(tasks, list) else ():
                if (held := held_task(task, state, worker)) is not None:
                    found[held.id, worker] = held  # the last reply wins: the task may run by now
        if not answers.replies and not answers.silent:
            break  # no worker is online
    return TasksAtWorkers(list(found.values()), sorted(silent))


def named(app: App, ids: Sequence[str], timeout_s: float = ASK_S) -> TasksAtWorkers:
    """Those of these ids that workers hold."""
    found: list[HeldTask] = []
    silent: set[str] = set()
    for start in range(0, len(ids), MOST_IDS):
        some = list(ids[start : start + MOST_IDS])
        answers = app.control.ask("query_task", {"ids": some}, timeout_s=timeout_s)
        silent.update(s.node for s in answers.silent)
        for worker, tasks in answers.replies.items():
            for value in tasks.values() if isinstance(tasks, dict) else ():
                if not (isinstance(value, list | tuple) and len(value) == 2):
                    continue
                word = _QUESTIONS.get(str(value[0]), "reserved")
                if (held := held_task(value[1], word, worker)) is not None:
                    found.append(held)
        if not answers.replies and not answers.silent:
            break
    return TasksAtWorkers(found, sorted(silent))


def held_task(task: Any, state: str, worker: str) -> HeldTask | None:
    """Parse one task of a reply; None when it is malformed. Any client may have written the reply."""
    if not isinstance(task, Mapping):
        return None
    inner = task.get("request")
    task = inner if isinstance(inner, Mapping) else task
    if not isinstance(task.get("id"), str):
        return None
    delivery = task.get("delivery_info")
    queue = str(delivery.get("routing_key") or "") if isinstance(delivery, Mapping) else ""
    return HeldTask(
        task["id"],
        str(task.get("name") or task.get("type") or ""),
        queue,
        state,
        worker,
        task.get("args"),
        task.get("kwargs"),
        moment(task.get("time_start")),
    )
