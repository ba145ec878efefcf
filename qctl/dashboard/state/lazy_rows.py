"""Sequences that make their items on access: tasks of a table, events of batches.

In:  the table; row numbers.  Out: sequences for a VirtualTable. Rows that are not displayed cost nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, overload

from qcore.events.store.columns import BITS, MASK
from qcore.events.store.table import TaskSeen, TaskTable
from qcore.wire.event import Event
from qctl.dashboard.state.schedules import ScheduleRow
from qctl.dashboard.state.snapshot import EventRow

FORGOTTEN = TaskSeen("", "(forgotten)")
#: rows around the cursor that are kept while the screen is frozen
PINNED = 200
#: so many of the newest tasks are searched for those of one queue, name or worker
LOOKED = 20_000


class LazyRows(Sequence[Any]):
    """A sequence that makes one item at a time."""

    def _item(self, position: int) -> Any:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    @overload
    def __getitem__(self, position: int) -> Any: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Any]: ...
    def __getitem__(self, position: int | slice) -> Any:
        if isinstance(position, slice):
            return [self._item(i) for i in range(*position.indices(len(self)))]
        if position < 0:
            position += len(self)
        if not 0 <= position < len(self):
            raise IndexError(position)
        return self._item(position)


class TaskRows(LazyRows):
    """All tasks of a table, newest first, or those of `rows` in their order.

    The length is fixed; the items are read on access. Create it in the thread that folds events, or with its
    lock held.
    """

    def __init__(self, table: TaskTable, rows: Sequence[int] | None = None) -> None:
        self._table, self._rows = table, rows
        self._pinned: dict[int, TaskSeen] = {}
        self._newest: dict[tuple[str, str, int], list[TaskSeen]] = {}
        self._numbers: list[int] = []  # chunk numbers, newest first
        self._ends: list[int] = []  # cumulated numbers of tasks
        if rows is None:
            total = 0
            for number, chunk in sorted(table.chunks.items(), reverse=True):
                total += len(chunk.runtimes)
                self._numbers.append(number)
                self._ends.append(total)
        self._size = len(rows) if rows is not None else self._ends[-1] if self._ends else 0

    def __len__(self) -> int:
        return self._size

    def _item(self, position: int) -> TaskSeen:
        if position in self._pinned:
            return self._pinned[position]
        try:
            return self._table.task(self._row(position))
        except (KeyError, IndexError):  # dropped since this list was made
            return FORGOTTEN

    def _row(self, position: int) -> int:
        if self._rows is not None:
            return self._rows[position]
        place = bisect_right(self._ends, position)
        return self._numbers[place] << BITS | self._ends[place] - 1 - position

    def find(self, uuid: str) -> int | None:
        """The position of a task in this list; None if it is not in it."""
        row = self._table.row(uuid)
        if row is None:
            return None
        if self._rows is not None:
            try:
                return self._rows.index(row)
            except ValueError:
                return None
        try:
            place = self._numbers.index(row >> BITS)
        except ValueError:
            return None
        position = self._ends[place] - 1 - (row & MASK)
        return position if position >= (self._ends[place - 1] if place else 0) else None

    def of(self, uuid: str) -> TaskSeen | None:
        """The task with this id, in the table if not in this list."""
        return self._table.get(uuid)

    def newest(self, column: str, word: str, most: int) -> list[TaskSeen]:
        """The newest tasks of the table with this word in a column: names, queues or workers; they stay the
        same while this list is shown. Only the LOOKED newest tasks are searched."""
        found = self._newest.get((column, word, most))
        if found is None:
            code = getattr(self._table, column).codes.get(word)
            rows = islice(() if code is None else self._rows_with(column, code), most)
            found = self._newest[column, word, most] = [self._table.task(row) for row in rows]
        return found

    def _rows_with(self, column: str, code: int) -> Iterator[int]:
        left = LOOKED
        for number, chunk in sorted(self._table.chunks.items(), reverse=True):
            codes = getattr(chunk, column)
            for place in range(len(codes) - 1, -1, -1):
                if codes[place] == code:
                    yield number << BITS | place
                left -= 1
                if not left:
                    return

    def pin(self, around: int) -> None:
        """Keep the tasks near a position in their current state."""
        near = range(max(0, around - PINNED), min(self._size, around + PINNED))
        self._pinned = {i: self._item(i) for i in near}


class LogRows(LazyRows):
    """The last events of batches, newest first; `total` is the number of the newest."""

    def __init__(self, batches: Iterable[list[Event]], total: int, most: int) -> None:
        self._batches, self._total = tuple(batches), total
        self._size = min(sum(map(len, self._batches)), most)
        self._events: list[Event] | None = None

    def __len__(self) -> int:
        return self._size

    def _item(self, position: int) -> EventRow:
        if self._events is None:
            newest = (e for batch in reversed(self._batches) for e in reversed(batch))
            self._events = list(islice(newest, self._size))
        return EventRow(self._total - position, self._events[position])


class ScheduleRows(LazyRows):
    """The entries of the schedule with these names, in this order; those in `known` are computed."""

    def __init__(
        self, names: Sequence[str], places: Mapping[str, int], known: Mapping[str, ScheduleRow]
    ) -> None:
        """places: the position of each name."""
        self._names, self._places, self._known = names, places, known

    def __len__(self) -> int:
        return len(self._names)

    def _item(self, position: int) -> ScheduleRow:
        name = self._names[position]
        return self._known.get(name) or ScheduleRow(name)

    def find(self, name: str) -> int | None:
        """The position of an entry in this list; None if it is not in it."""
        return self._places.get(name)
