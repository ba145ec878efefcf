"""The broker as the result store: results are kept where the tasks are.

The worker stores them in the same step as the acknowledgement (Settlement.result).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qcore.brokers.base import Broker, StoredResult
from qcore.results.base import ResultStore, results
from qcore.wire.result import ResultMeta


@results.register("broker")
class BrokerResults(ResultStore):
    """Results of a broker with features.results; options: the `broker`."""

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(url, options)
        self.broker: Broker = self.options["broker"]

    def store(self, results: Sequence[StoredResult]) -> None:
        self.broker.store_results(results)

    def get(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        return self.broker.results_of(task_ids)

    def wait(self, task_id: str, timeout_s: float | None) -> ResultMeta | None:
        return self.broker.wait_result(task_id, timeout_s)

    def forget(self, task_ids: Sequence[str]) -> int:
        return self.broker.forget_results(task_ids)
