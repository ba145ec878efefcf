"""Failed tasks, in memory."""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec.structs import replace

from qcore.brokers.contract.failed_tasks import (
    FailureCounts,
    FailureLimits,
    FailurePage,
    FailureStore,
    NewTry,
)
from qcore.brokers.contract.records import Message
from qcore.brokers.memory.state import Place
from qcore.wire.failure import Failure


class MemoryFailures(FailureStore):
    """Failed tasks of one process."""

    _place: Place
    _failure_limits: FailureLimits

    def keep_failures(self, failures: Sequence[Failure]) -> None:
        with self._place.changed:
            for failure in failures:
                self._place.keep_failure(failure, self._failure_limits)

    def failures(
        self,
        since: float | None = None,
        until: float | None = None,
        limit: int = 500,
        after: str = "",
        whole: bool = False,
    ) -> FailurePage:
        now, before = time.time(), float(after) if after else None
        found: list[Failure] = []
        with self._place.changed:
            for one in reversed(self._place.failures.values()):
                at = one.failed_at
                if (before is not None and at >= before) or (until is not None and at > until):
                    continue
                if (since is not None and at < since) or (one.ttl_s is not None and at + one.ttl_s <= now):
                    break
                found.append(replace(one) if whole else replace(one, traceback="", raw=b""))
                if len(found) == limit:
                    return FailurePage(found, repr(at))
        return FailurePage(found, "")

    def failures_of(self, task_ids: Sequence[str]) -> list[Failure | None]:
        with self._place.changed:
            return [replace(f) if (f := self._place.failures.get(i)) else None for i in task_ids]

    def forget_failures(self, task_ids: Sequence[str]) -> int:
        with self._place.changed:
            return sum(self._place.failures.pop(task_id, None) is not None for task_id in task_ids)

    def retry_failures(self, tries: Sequence[NewTry]) -> list[str]:
        owners = []
        with self._place.changed:
            for one in tries:
                failure = self._place.failures.get(one.failed_id)
                if failure is not None and not failure.retried_as:
                    failure.retried_as = one.task_id
                    self._place.put(Message(one.raw, one.queue, priority=one.priority), one.queue)
                owners.append(failure.retried_as if failure is not None else "")
        return owners

    def failure_counts(self) -> FailureCounts:
        with self._place.changed:
            return FailureCounts(len(self._place.failures), self._place.failures_dropped)
