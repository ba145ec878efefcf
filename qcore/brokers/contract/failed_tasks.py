"""The part of the broker contract that stores failed tasks, for drivers with features.failures.

In:  failures, with the settlements that end their deliveries.  Out: pages of failures; retries.
Options of the broker: `failed_ttl_s` (None: never expires) and `failed_max`; the oldest are deleted first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from qcore.errors import Unsupported
from qcore.wire.failure import FailedTask

DEFAULT_TTL_S = 604_800.0
DEFAULT_MAX = 100_000
#: old entries deleted with each new one, which bounds the duration of a step
SWEPT_WITH_EACH = 4


class FailedTaskPage(msgspec.Struct, frozen=True):
    """One page of failures, newest first. cursor selects the next page, '' when there is none; a page
    may hold fewer than the limit, or none, without being the last."""

    entries: list[FailedTask]
    cursor: str


class RetryRequest(msgspec.Struct, frozen=True):
    """A failed task, with the message and id of its retry."""

    failed_id: str
    task_id: str
    raw: bytes
    queue: str
    priority: int = 0


class FailedTaskCounts(msgspec.Struct, frozen=True):
    """kept: the number stored, those about to expire included; dropped: deleted because of `failed_max`."""

    kept: int
    dropped: int


class FailedTaskLimits(msgspec.Struct, frozen=True):
    """How long failures are kept, and how many."""

    ttl_s: float | None
    most: int


def limits_of(options: Mapping[str, Any]) -> FailedTaskLimits:
    ttl_s = options.get("failed_ttl_s", DEFAULT_TTL_S)
    return FailedTaskLimits(float(ttl_s) if ttl_s else None, int(options.get("failed_max", DEFAULT_MAX)))


class FailedTaskStore:
    """Failed tasks by task id; a later failure under the same id replaces the earlier one."""

    def __init__(self, driver: str) -> None:
        """driver: the name of the driver, for the messages of Unsupported."""
        self._driver = driver

    def store(self, failures: Sequence[FailedTask]) -> None:
        """Store failures; drivers do the same in the step of a Settlement that has one."""
        raise self._unsupported()

    def page(
        self,
        since: float | None = None,
        until: float | None = None,
        limit: int = 500,
        after: str = "",
        whole: bool = False,
    ) -> FailedTaskPage:
        """Failures between two times (epoch seconds), newest first. after: the cursor of the previous
        page. whole: include tracebacks and messages. Later pages skip failures stored or deleted
        meanwhile."""
        raise self._unsupported()

    def of(self, task_ids: Sequence[str]) -> list[FailedTask | None]:
        """The failures of these ids with all fields; None for an unknown id."""
        raise self._unsupported()

    def forget(self, task_ids: Sequence[str]) -> int:
        """Delete the failures of these ids; returns how many existed."""
        raise self._unsupported()

    def retry(self, tries: Sequence[RetryRequest]) -> list[str]:
        """Publish each retry and record it with its failure, in one step for each, unless the failure was
        retried before. Returns for each the id of the retry: `task_id` when this call was the first, ''
        when the failure no longer exists. May be called again with the same ids after BrokerDown."""
        raise self._unsupported()

    def counts(self) -> FailedTaskCounts:
        raise self._unsupported()

    def _unsupported(self) -> Unsupported:
        return Unsupported(self._driver, "keep failed tasks (results with FAILURE are in the result store)")
