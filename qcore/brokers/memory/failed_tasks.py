"""Failed tasks, in memory."""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec.structs import replace

from qcore.brokers.contract.failed_tasks import (
    FailedTaskCounts,
    FailedTaskLimits,
    FailedTaskPage,
    FailedTaskStore,
    RetryRequest,
)
from qcore.brokers.contract.records import Message
from qcore.brokers.memory.state import MemoryState
from qcore.wire.failure import FailedTask


class MemoryFailedTasks(FailedTaskStore):
    """Failed tasks of one process."""

    def __init__(self, state: MemoryState, limits: FailedTaskLimits) -> None:
        super().__init__("memory")
        self._state, self._limits = state, limits

    def store(self, failures: Sequence[FailedTask]) -> None:
        with self._state.changed:
            for failure in failures:
                self._state.store_failed_task(failure, self._limits)

    def page(
        self,
        since: float | None = None,
        until: float | None = None,
        limit: int = 500,
        after: str = "",
        whole: bool = False,
    ) -> FailedTaskPage:
        now, before = time.time(), float(after) if after else None
        found: list[FailedTask] = []
        with self._state.changed:
            for one in reversed(self._state.failures.values()):
                at = one.failed_at
                if (before is not None and at >= before) or (until is not None and at > until):
                    continue
                if (since is not None and at < since) or (one.ttl_s is not None and at + one.ttl_s <= now):
                    break
                found.append(replace(one) if whole else replace(one, traceback="", raw=b""))
                if len(found) == limit:
                    return FailedTaskPage(found, repr(at))
        return FailedTaskPage(found, "")

    def of(self, task_ids: Sequence[str]) -> list[FailedTask | None]:
        with self._state.changed:
            return [replace(f) if (f := self._state.failures.get(i)) else None for i in task_ids]

    def forget(self, task_ids: Sequence[str]) -> int:
        with self._state.changed:
            return sum(self._state.failures.pop(task_id, None) is not None for task_id in task_ids)

    def retry(self, tries: Sequence[RetryRequest]) -> list[str]:
        owners = []
        with self._state.changed:
            for one in tries:
                failure = self._state.failures.get(one.failed_id)
                if failure is not None and not failure.retried_as:
                    failure.retried_as = one.task_id
                    self._state.put(Message(one.raw, one.queue, priority=one.priority), one.queue)
                owners.append(failure.retried_as if failure is not None else "")
        return owners

    def counts(self) -> FailedTaskCounts:
        with self._state.changed:
            return FailedTaskCounts(len(self._state.failures), self._state.failures_dropped)
