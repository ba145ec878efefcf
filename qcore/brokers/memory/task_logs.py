"""Task logs, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qcore.brokers.contract.task_logs import TASKS, TaskLogs
from qcore.brokers.memory.state import MemoryState


class MemoryTaskLogs(TaskLogs):
    """Task logs of one process."""

    def __init__(self, state: MemoryState) -> None:
        super().__init__("memory")
        self._state = state

    def append(self, lines: Mapping[str, Sequence[bytes]], most: int) -> None:
        with self._state.changed:
            kept = self._state.lines
            for task_id, new in lines.items():
                kept[task_id] = [*kept.pop(task_id, []), *new][-most:]
            while len(kept) > TASKS:
                del kept[next(iter(kept))]

    def of(self, task_id: str) -> list[bytes]:
        with self._state.changed:
            return list(self._state.lines.get(task_id, ()))
