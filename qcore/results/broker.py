"""The result store that is the broker itself.

In:  a broker that stores results.  Out: the store; the worker then stores in the step of the acknowledgement.
Opened by name it connects to the given broker URL; usually it is created around an open Broker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qcore.brokers.base import Broker
from qcore.brokers.contract.records import FullChord, Message, StoredResult
from qcore.brokers.contract.result_watch import ResultWatch
from qcore.brokers.registry import open_broker
from qcore.errors import Unsupported
from qcore.results.base import ResultStore
from qcore.wire.outcome import ChordPart
from qcore.wire.result import ResultMeta


class BrokerResults(ResultStore):
    """Results in the broker's own keys or tables."""

    def __init__(self, url: str, options: dict[str, Any] | None = None, broker: Broker | None = None) -> None:
        super().__init__(url, options)
        self._mine = broker is None
        self.in_broker = broker is not None
        self.broker = broker if broker is not None else open_broker(url, options)
        if not self.broker.features.results:
            raise Unsupported(self.broker.name, "keep results")

    def store(self, results: Sequence[StoredResult]) -> None:
        self.broker.store_results(results)

    def get(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        return self.broker.results_of(task_ids)

    def ids(self, after: str = "", limit: int = 1000) -> tuple[list[str], str]:
        return self.broker.result_ids(after, limit)

    def wait(self, task_id: str, timeout_s: float | None) -> ResultMeta | None:
        return self.broker.wait_result(task_id, timeout_s)

    def watch(self) -> ResultWatch:
        return self.broker.watch_results()

    def forget(self, task_ids: Sequence[str]) -> int:
        return self.broker.forget_results(task_ids)

    def chord_sizes(self, sizes: Sequence[tuple[str, int]], ttl_s: float | None) -> None:
        self.broker.chords.create(sizes, ttl_s)

    def chord_parts(self, parts: Sequence[ChordPart], ttl_s: float | None) -> list[FullChord | None]:
        return self.broker.chords.count(parts, ttl_s)

    def chord_done(self, full: FullChord, messages: Sequence[Message] = ()) -> bool:
        return self.broker.chords.finish(full, messages)

    def chord_failed(self, group: str) -> None:
        self.broker.chords.fail(group)

    def chord_grows(self, group: str) -> None:
        self.broker.chords.grow(group)

    def save_group(self, group_id: str, results: Any, ttl_s: float | None) -> None:
        self.broker.save_group(group_id, results, ttl_s)

    def restore_group(self, group_id: str) -> Any:
        return self.broker.restore_group(group_id)

    def delete_group(self, group_id: str) -> None:
        self.broker.delete_group(group_id)

    def close(self) -> None:
        if self._mine:
            self.broker.close()
