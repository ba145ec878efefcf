"""`celery.contrib.abortable`: tasks that look, while they run, whether somebody asked them to stop.

In:  abort() of a result, anywhere.  Out: is_aborted() in the task, which then ends by itself. The result
store holds the request as the state ABORTED until the task ends.
"""

from __future__ import annotations

from typing import Any

from qcore.tasks.result import AsyncResult
from qcore.tasks.task import Task

ABORTED = "ABORTED"


class AbortableAsyncResult(AsyncResult):
    """The result of a task that can be aborted."""

    __slots__ = ()

    def is_aborted(self) -> bool:
        return self.state == ABORTED

    def abort(self) -> None:
        """Ask the task to stop. Raises ResultsNotKept, BrokerDown."""
        app: Any = self.app
        app.store_state(self.id, ABORTED, None)


class AbortableTask(Task):
    """Base of tasks that call is_aborted() from time to time."""

    abstract = True

    def AsyncResult(self, task_id: str, **options: Any) -> AbortableAsyncResult:
        return AbortableAsyncResult(task_id, task_name=self.name, app=self.app, **options)

    def apply_async(self, args: Any = None, kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        """As Task's; the result can be aborted."""
        found = super().apply_async(args, kwargs, **options)
        return self.AsyncResult(found.id) if type(found) is AsyncResult else found

    def is_aborted(self, task_id: str | None = None) -> bool:
        """Whether abort() was called for this run, or for `task_id`. One round trip to the result store."""
        own = task_id or self.request.id
        return own is not None and self.AsyncResult(own).is_aborted()
