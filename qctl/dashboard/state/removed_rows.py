"""Rows that an action removed: each stays in its place for one refresh, so that no key hits its neighbour.

In:  the rows that an action was run for, and each list that is drawn.  Out: the list with the removed ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from qctl.dashboard.state.lazy_rows import LazyRows
from qctl.dashboard.state.snapshot import FailureRow, QueueRow, Snapshot, WorkerRow

#: seconds for which a row stays after it is gone: one refresh of the broker's figures
STAY_S = 2.5
#: a row that is still there so long after its action is not watched any more, seconds
WATCH_S = 60.0
_LISTS: tuple[tuple[type, str], ...] = (
    (FailureRow, "failures"),
    (QueueRow, "queues"),
    (WorkerRow, "workers"),
)


class _Held(msgspec.Struct):
    item: Any
    place: int
    until: float
    is_gone: bool = False


class Spliced(LazyRows):
    """A sequence with some more items in it, by their positions in the result, in ascending order."""

    def __init__(self, rows: Sequence[Any], more: dict[int, Any], keys: dict[str, int]) -> None:
        self._rows, self._more, self._keys = rows, more, keys

    def __len__(self) -> int:
        return len(self._rows) + len(self._more)

    def _item(self, position: int) -> Any:
        if position in self._more:
            return self._more[position]
        return self._rows[position - sum(place < position for place in self._more)]

    def find(self, key: str) -> int | None:
        """The position of an item of the original list, or of an added one; None if it is in neither."""
        if key in self._keys:
            return self._keys[key]
        find = getattr(self._rows, "find", None)
        found: int | None = find(key) if find is not None else None
        if found is None:
            return None
        for place in self._more:
            found += place <= found
        return found


class RemovedRows:
    """The rows that actions were run for."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    @property
    def gone(self) -> frozenset[str]:
        """The keys of those that are drawn although they are gone."""
        return frozenset(key for key, held in self._held.items() if held.is_gone)

    def hold(self, rows: Sequence[tuple[str, Any, int]], now: float) -> None:
        """Watch rows, given by key, item and position; now: a monotonic clock."""
        for key, item, place in rows:
            self._held[key] = _Held(item, place, now + WATCH_S)

    def forget(self) -> None:
        """Watch nothing: another list is shown."""
        self._held.clear()

    def splice(self, rows: Sequence[Any], key_of: Callable[[Any], str], now: float) -> Sequence[Any]:
        """The rows, with those that are gone."""
        if not self._held:
            return rows
        find = getattr(rows, "find", None)
        present = None if find is not None else {key_of(row) for row in rows}
        self._notice(
            lambda key: find(key) is not None if present is None and find else key in (present or ()), now
        )
        gone = sorted((held.place, key) for key, held in self._held.items() if held.is_gone)
        if not gone:
            return rows
        more: dict[int, Any] = {}
        for place, key in gone:
            at = min(place, len(rows) + len(more))
            while at in more:
                at += 1
            more[at] = self._held[key].item
        keys = {key_of(item): place for place, item in more.items()}
        if present is None:
            return Spliced(rows, more, keys)
        return list(Spliced(rows, more, keys))

    def restore(self, picture: Snapshot, key_of: Callable[[Any], str], now: float) -> Snapshot:
        """The snapshot with the rows that are gone, for the overview."""
        if not self._held:
            return picture
        every = [row for _, name in _LISTS for row in getattr(picture, name)]
        present = {key_of(row) for row in every}
        self._notice(lambda key: key in present, now)
        for held in self._held.values():
            name = next((name for kind, name in _LISTS if isinstance(held.item, kind)), "")
            if held.is_gone and name:
                rows = list(getattr(picture, name))
                rows.insert(held.place, held.item)
                picture = msgspec.structs.replace(picture, **{name: tuple(rows)})
        return picture

    def _notice(self, is_there: Callable[[str], bool], now: float) -> None:
        for key, held in list(self._held.items()):
            if not held.is_gone and not is_there(key):
                held.is_gone, held.until = True, now + STAY_S
            elif held.is_gone and is_there(key):
                del self._held[key]
                continue
            if now >= held.until:
                del self._held[key]
