"""Keep the result of a filter and a sort order up to date, in a background thread.

In:  a table of tasks; a selection.  Out: Found, whose rows appear as soon as the first are known.
Before this: filter_columns.py selects rows.  After this: lazy_rows.py makes tasks of row numbers.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.events.store.columns import BITS, Chunk, Words
from qcore.events.store.table import STATES, TaskTable

if TYPE_CHECKING:
    from qctl.dashboard.state.filter_columns import ColumnFilter
    from qctl.filters import Filter

#: pause between searches as a multiple of their duration: a search uses at most a fifth of a core
REST = 4.0
LEAST_REST_S = 0.25


class Wanted(NamedTuple):
    """A selection: the filter (None: all), the column to sort by (empty: newest first)."""

    filter: Filter | None = None
    order: str = ""
    reverse: bool = False

    @property
    def is_plain(self) -> bool:
        return self.filter is None and not self.order


class Found(NamedTuple):
    """Row numbers in order; the number of rows searched; whether all were."""

    wanted: Wanted
    rows: array[int]
    looked_at: int = 0
    complete: bool = False


class TaskSearch:
    """Set the selection with want(), read `found`; start() and stop() control the thread."""

    def __init__(self, table: TaskTable) -> None:
        self._table = table
        self._wanted = Wanted()
        self._wake, self._stopped = threading.Event(), False
        self.found = Found(self._wanted, array("Q"))
        self._thread = threading.Thread(target=self._run, name="find", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def want(self, wanted: Wanted) -> None:
        """Set the selection."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._wake.set()

    def find(self, wanted: Wanted) -> Found:
        """Search in the calling thread, to the end."""
        self._wanted = wanted
        self._search(wanted)
        return self.found

    def _run(self) -> None:
        while not self._stopped:
            wanted = self._wanted
            took = 0.0
            if not wanted.is_plain:
                begin = time.perf_counter()
                self._search(wanted)
                took = time.perf_counter() - begin
            self._wake.wait(None if wanted.is_plain else max(LEAST_REST_S, REST * took))
            self._wake.clear()

    def _search(self, wanted: Wanted) -> None:
        """Search, newest chunk first. Partial results are published only if no complete result of the same
        selection exists."""
        table = self._table
        sieve = None
        if wanted.filter is not None:
            from qctl.dashboard.state.filter_columns import ColumnFilter

            sieve = ColumnFilter(table, wanted.filter)
        rows, looked_at = array("Q"), 0
        fresh = self.found.wanted != wanted
        for number, chunk in sorted(table.chunks.items(), reverse=True):
            if self._stopped or self._wanted != wanted:
                return
            places = self._places(sieve, chunk)
            base = number << BITS
            rows.extend(base | i for i in reversed(places))
            looked_at += len(chunk.runtimes)
            if fresh and not wanted.order:
                self.found = Found(wanted, array("Q", rows), looked_at)
        if wanted.order:
            rows = self._ordered(rows, wanted)
        self.found = Found(wanted, rows, looked_at, True)

    def _places(self, sieve: ColumnFilter | None, chunk: Chunk) -> Sequence[int]:
        """Matching rows of a chunk. If rows are renumbered meanwhile, the chunk is searched again."""
        while True:
            before = self._table.generation
            try:
                places = range(len(chunk.runtimes)) if sieve is None else sieve.places(chunk)
            except (IndexError, ValueError):
                if self._table.generation == before:
                    raise
                continue
            if self._table.generation == before:
                return places

    def _ordered(self, rows: array[int], wanted: Wanted) -> array[int]:
        key = _key(self._table, wanted.order)
        try:
            return array("Q", sorted(rows, key=key, reverse=wanted.reverse))
        except (KeyError, IndexError):  # dropped meanwhile; the next search corrects it
            return rows


def _key(table: TaskTable, order: str) -> Callable[[int], Any]:
    """The sort key for row numbers."""
    chunks, mask = table.chunks, (1 << BITS) - 1

    def of(read: Callable[[Chunk, int], Any]) -> Callable[[int], Any]:
        return lambda row: read(chunks[row >> BITS], row & mask)

    def rank(words: Words) -> list[int]:
        """The alphabetical rank of each word."""
        ranks = [0] * len(words.words)
        for place, code in enumerate(sorted(range(len(ranks)), key=words.words.__getitem__)):
            ranks[code] = place
        return [*ranks, *[len(ranks)] * 4096]  # for words added during the sort

    match order:
        case "name":
            names = rank(table.names)
            return of(lambda c, i: names[c.names[i]])
        case "worker":
            workers = rank(table.workers)
            return of(lambda c, i: workers[c.workers[i]])
        case "queue":
            queues = rank(table.queues)
            return of(lambda c, i: queues[c.queues[i]])
        case "state":
            return of(lambda c, i: c.states[i])
        case "time":
            now = time.time()
            return of(lambda c, i: -(c.runtimes[i] or _lasting(c, i, now)))
        case "try":
            return of(lambda c, i: -c.retries[i])
        case "id":
            return of(lambda c, i: c.ids[i])
        case _:
            return of(lambda c, i: c.texts[i])


_RUNNING = STATES.index("STARTED")


def _lasting(chunk: Chunk, i: int, now: float) -> float:
    """Seconds that the task has run or ran, if its worker reported no runtime."""
    began = chunk.started[i]
    if not began:
        return 0.0
    return now - began if chunk.states[i] == _RUNNING else max(chunk.ended[i] - began, 0.0)
