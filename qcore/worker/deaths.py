"""How many of this worker's processes died running a task: not every broker counts deliveries."""

from __future__ import annotations

#: tasks that are remembered
MOST = 10_000


class Deaths:
    """Counts by task id; the longest ago is forgotten first."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def count(self, task_id: str) -> int:
        """One more; how many so far."""
        count = self._counts.pop(task_id, 0) + 1
        self._counts[task_id] = count
        if len(self._counts) > MOST:
            del self._counts[next(iter(self._counts))]
        return count
