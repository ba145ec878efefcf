"""Watching many results at once: for clients in asyncio, where no thread waits for a single one.

In:  task ids, from any thread.  Out: the metas of those that are ready, in the thread that asks for them.
After this: tasks/asynchronous.py.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

from qcore.wire.result import ResultMeta

#: seconds between two questions of PolledWatch: the first, and the longest
FIRST_S, LONGEST_S = 0.002, 0.1


class ResultWatch(ABC):
    """Results that somebody waits for. One thread calls arrived(); the other methods are for any thread."""

    @abstractmethod
    def add(self, task_ids: Iterable[str]) -> None:
        """Watch these too; arrived() notices at once."""

    @abstractmethod
    def remove(self, task_ids: Iterable[str]) -> None:
        """Watch these no longer."""

    @abstractmethod
    def arrived(self, timeout_s: float) -> list[ResultMeta]:
        """Those that are ready, each once, as soon as there are some; it is not watched any more. An empty
        list after timeout_s seconds. Raises BrokerDown; then the results are still watched."""

    @abstractmethod
    def close(self) -> None:
        """Drop the connection; to be called when arrived() does not run."""


class PolledWatch(ResultWatch):
    """Asks for all results again and again: soon after something has happened, later less often."""

    def __init__(self, get: Callable[[Sequence[str]], list[ResultMeta | None]]) -> None:
        self._get = get
        self._ids: dict[str, None] = {}
        self._changed = threading.Condition()
        self._pause_s = FIRST_S

    def add(self, task_ids: Iterable[str]) -> None:
        with self._changed:
            self._ids.update(dict.fromkeys(task_ids))
            self._pause_s = FIRST_S
            self._changed.notify_all()

    def remove(self, task_ids: Iterable[str]) -> None:
        with self._changed:
            for task_id in task_ids:
                self._ids.pop(task_id, None)

    def arrived(self, timeout_s: float) -> list[ResultMeta]:
        left_s = timeout_s
        while True:
            with self._changed:
                ids = list(self._ids)
            found = [meta for meta in self._get(ids) if meta is not None and meta.is_ready] if ids else []
            if found or left_s <= 0:
                self.remove([meta.task_id for meta in found])
                self._pause_s = FIRST_S
                return found
            with self._changed:
                pause_s = min(self._pause_s if ids else timeout_s, left_s)
                if list(self._ids) == ids:
                    self._changed.wait(pause_s)
                self._pause_s = min(self._pause_s * 1.5, LONGEST_S)
            left_s -= pause_s

    def close(self) -> None:
        """There is nothing to drop: the connection is that of the store."""
