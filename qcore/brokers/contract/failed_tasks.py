"""The part of the broker contract that keeps failed tasks, for drivers with features.failures.

In:  failures, with the settlements that end their deliveries.  Out: pages of them; new tries.
Options of the broker: `failed_ttl_s` (None: for ever) and `failed_max`; the oldest go first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from qcore.errors import Unsupported
from qcore.wire.failure import Failure

DEFAULT_TTL_S = 604_800.0
DEFAULT_MAX = 100_000
#: old entries that go with each new one, so that no step is long
SWEPT_WITH_EACH = 4


class FailurePage(msgspec.Struct, frozen=True):
    """Some failures, newest first. cursor is for the next page, '' when there is none; a page may be
    shorter than asked for, or empty, and still not be the last."""

    entries: list[Failure]
    cursor: str


class NewTry(msgspec.Struct, frozen=True):
    """A failed task, and the message and id with which it is to be tried again."""

    failed_id: str
    task_id: str
    raw: bytes
    queue: str
    priority: int = 0


class FailureCounts(msgspec.Struct, frozen=True):
    """kept: how many there are, those about to expire included; dropped: because there were too many."""

    kept: int
    dropped: int


class FailureLimits(msgspec.Struct, frozen=True):
    """How long failures are kept, and how many."""

    ttl_s: float | None
    most: int


def limits_of(options: Mapping[str, Any]) -> FailureLimits:
    ttl_s = options.get("failed_ttl_s", DEFAULT_TTL_S)
    return FailureLimits(float(ttl_s) if ttl_s else None, int(options.get("failed_max", DEFAULT_MAX)))


class FailureStore:
    """Failed tasks by their ids; one that fails again under the same id takes the place of the older."""

    name: ClassVar[str]

    def keep_failures(self, failures: Sequence[Failure]) -> None:
        """Store these; drivers do the same in the step of a Settlement that has one."""
        raise self._unsupported()

    def failures(
        self,
        since: float | None = None,
        until: float | None = None,
        limit: int = 500,
        after: str = "",
        whole: bool = False,
    ) -> FailurePage:
        """Newest first, those that failed between two times (epoch seconds). after: the cursor of the
        page before. whole: with tracebacks and messages. What is stored meanwhile is not in later
        pages, what is deleted meanwhile is passed over."""
        raise self._unsupported()

    def failures_of(self, task_ids: Sequence[str]) -> list[Failure | None]:
        """These, whole; None for what is not there."""
        raise self._unsupported()

    def forget_failures(self, task_ids: Sequence[str]) -> int:
        """Delete these; how many there were."""
        raise self._unsupported()

    def retry_failures(self, tries: Sequence[NewTry]) -> list[str]:
        """Publish each new try and note it with its failure, in one step for each, unless it was tried
        again before. For each the id of the task that tries it again, which is `task_id` when this call
        was the first, and '' when the failure is not there any more. May be called again after
        BrokerDown, with the same ids."""
        raise self._unsupported()

    def failure_counts(self) -> FailureCounts:
        raise self._unsupported()

    def _unsupported(self) -> Unsupported:
        return Unsupported(self.name, "keep failed tasks (results with FAILURE are in the result store)")
