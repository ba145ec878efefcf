"""Results that this process has read already, for the setting result_cache_max.

In:  a result store.  Out: the same store, which reads the value of a task, or the members of a group, once.
As in Celery only successes are kept, the least recently read are dropped first, and one that was deleted by
another process is still there. Before this: app/connections.py.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from qcore.results.base import ResultStore
from qcore.wire.result import SUCCESS, ResultMeta


class ResultCache:
    """The cache of one store, whose reading methods it replaces."""

    def __init__(self, store: ResultStore, most: int | None) -> None:
        """most: how many results and groups are kept; None or 0: all."""
        self._most, self._lock = most, threading.Lock()
        self._kept: OrderedDict[str, Any] = OrderedDict()
        self.stored = store.get
        self._wait, self._forget = store.wait, store.forget
        self._group, self._delete_group = store.restore_group, store.delete_group
        replaced: Any = store
        replaced.get, replaced.wait, replaced.forget = self._get, self._waited, self._forgotten
        replaced.restore_group, replaced.delete_group = self._restored, self._group_deleted
        store.cache = self

    def __contains__(self, key: str) -> bool:
        with self._lock:
            return key in self._kept

    def _known(self, key: str) -> Any:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: str, value: Any) -> None:
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            while self._most and len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def _drop(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._kept.pop(key, None)

    def _get(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        found: dict[str, ResultMeta | None] = {task_id: self._known(task_id) for task_id in task_ids}
        missing = [task_id for task_id, meta in found.items() if meta is None]
        for task_id, meta in zip(missing, self.stored(missing) if missing else (), strict=True):
            found[task_id] = meta
            self._note(meta)
        return [found[task_id] for task_id in task_ids]

    def _note(self, meta: ResultMeta | None) -> None:
        if meta is not None and meta.status == SUCCESS:
            self._keep(meta.task_id, meta)

    def _waited(self, task_id: str, timeout_s: float | None) -> ResultMeta | None:
        known: ResultMeta | None = self._known(task_id)
        if known is None:
            known = self._wait(task_id, timeout_s)
            self._note(known)
        return known

    def _forgotten(self, task_ids: Sequence[str]) -> int:
        self._drop(task_ids)
        return self._forget(task_ids)

    def _restored(self, group_id: str) -> Any:
        found = self._known(group_id)
        if found is None and (found := self._group(group_id)) is not None:
            self._keep(group_id, found)
        return found

    def _group_deleted(self, group_id: str) -> None:
        self._drop([group_id])
        self._delete_group(group_id)

    def read_again(self, task_id: str) -> None:
        """Replace what is kept by what is stored."""
        self._drop([task_id])
        self._note(self.stored([task_id])[0])
