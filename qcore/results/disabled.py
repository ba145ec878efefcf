"""The result store for "none configured": it stores nothing, and reading raises an error.

In:  results, which are dropped.  Out: ResultsNotKept for every request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from qcore.brokers.contract.records import StoredResult
from qcore.errors import ResultsNotKept
from qcore.results.base import ResultStore
from qcore.wire.result import ResultMeta


class NoResults(ResultStore):
    """Stores nothing."""

    keeps = False

    def store(self, results: Sequence[StoredResult]) -> None:
        pass

    def get(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        self._refuse()

    def wait(self, task_id: str, timeout_s: float | None) -> ResultMeta | None:
        self._refuse()

    def forget(self, task_ids: Sequence[str]) -> int:
        return 0

    def _refuse(self) -> NoReturn:
        raise ResultsNotKept("" if self.url.startswith("disabled") else self.url)
