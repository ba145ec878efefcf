"""Tasks that workers hold: running, reserved, or delayed.

In:  an app.  Out: one HeldTask for each task, from the workers that answered.
What is delayed waits in the broker; each qcore worker lists it for its queues. Celery's hold it themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.base.times import epoch
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
    worker: str  # '': none yet, it is delayed in the broker
    args: Any = None
    kwargs: Any = None
    started_at: float | None = None
    due_at: float | None = None  # of a delayed one

    @property
    def holder(self) -> str:
        """Who holds it, for a sentence."""
        return self.worker or "the worker that takes it"

    def record(self) -> dict[str, Any]:
        """A record for filters."""
        return {**self._asdict(), "worker": self.worker or None, "root_id": None}


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
            ours = worker in answers.members
            for task in tasks if isinstance(tasks, list) else ():
                if (held := held_task(task, state, worker, ours)) is not None:
                    found[held.id, held.worker] = held  # the last reply wins: the task may run by now
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
            ours = worker in answers.members
            for value in tasks.values() if isinstance(tasks, dict) else ():
                if not (isinstance(value, list | tuple) and len(value) == 2):
                    continue
                word = _QUESTIONS.get(str(value[0]), "reserved")
                held = held_task(value[1], word, worker, ours)
                if held is not None and held not in found:
                    found.append(held)
        if not answers.replies and not answers.silent:
            break
    return TasksAtWorkers(found, sorted(silent))


def held_task(task: Any, state: str, worker: str, ours: bool = False) -> HeldTask | None:
    """Parse one task of a reply; None when it is malformed. Any client may have written the reply. ours: the
    worker is one of qcore's."""
    if not isinstance(task, Mapping):
        return None
    inner, eta = task.get("request"), task.get("eta")
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
        "" if ours and state == "delayed" else worker,
        task.get("args"),
        task.get("kwargs"),
        moment(task.get("time_start")),
        _due_at(eta) if state == "delayed" else None,
    )


def _due_at(eta: Any) -> float | None:
    """An ETA as epoch seconds; Celery's is ISO 8601 or, with some versions, a number."""
    try:
        return epoch(eta) if isinstance(eta, str) else moment(eta)
    except ValueError:
        return None
