"""Apply a filter to the table of tasks, chunk by chunk, cheap columns first.

In:  a table and a Filter.  Out: row indexes in a chunk.  No lock is needed: the thread that folds events only
adds rows, and when rows are renumbered the table's generation changes.

Tests of names, states, queues and workers are evaluated once per combination; numbers are compared next;
texts come last, and only in rows that contain the substrings of every match.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from qcore.events.store.columns import Chunk
from qcore.events.store.table import STARTED, STATES, SUCCESS, TaskTable
from qctl.filters import Filter
from qctl.filters.fields import state_named
from qctl.filters.predicate import Part, SubstringHint, Test
from qctl.fleet.event_record import waited_s

Read = Callable[[int], Any]

WORDS = ("state", "name", "queue", "worker")
NUMBERS = frozenset(("at", "runtime_s", "wait_s", "tries", *WORDS))
_STATE_WORDS = tuple(state_named(s) or s.lower() for s in STATES)
_TEXTS = {"args": 0, "kwargs": 1, "result": 2}
_SEP = "\x1f"
_ROW_END = "\x1e"  # separates rows; if a text contains it, rows are tested one by one


class ColumnFilter:
    """The tests of a filter, ordered by cost."""

    def __init__(self, table: TaskTable, wanted: Filter) -> None:
        self._table = table
        words = [p for p in wanted.parts if p.reads and p.reads <= set(WORDS)]
        self._keys = [k for k in WORDS if any(k in p.reads for p in words)]
        self._answers = _Answers(table, self._keys, [p.test for p in words])
        rest = [p for p in wanted.parts if p not in words]
        self._rest = sorted(rest, key=lambda p: (not p.reads <= NUMBERS, p.values))

    def places(self, chunk: Chunk) -> Sequence[int]:
        """The indexes of matching rows, ascending."""
        size = len(chunk.runtimes)  # the column that is appended last
        found: Sequence[int] = range(size)
        if self._keys:
            columns = [self._column(chunk, k)[:size] for k in self._keys]
            answers = self._answers
            codes: Any = columns[0] if len(columns) == 1 else zip(*columns, strict=True)
            found = [i for i, code in enumerate(codes) if answers[code]]
        for part in self._rest:
            found = _with_traces(chunk, found, part.hints.traces)
            if part.reads == {"name", "id"} and part.within:
                found = self._named(chunk, found, part)
            else:
                found = self._tested(chunk, found, part)
        return found

    def _named(self, chunk: Chunk, found: Sequence[int], part: Part) -> list[int]:
        """Rows whose name or id contains a text: each name is tested once, ids only if they contain it."""
        names, words = chunk.names, self._table.names.words
        test, ids = part.test, chunk.ids
        fits = {code: test({"name": words[code]}) for code in set(names)}
        fit = {i for i in ids.places_with(part.within.lower()) if test({"id": ids[i]})}
        return [i for i in found if fits[names[i]] or i in fit]

    def _tested(self, chunk: Chunk, found: Sequence[int], part: Part) -> list[int]:
        reads = [(key, self._reader(chunk, key)) for key in part.reads]
        record: dict[str, Any] = {}
        if part.reads == {"exc"} and not part.test(record):
            more = chunk.more
            found = [i for i in found if i in more]  # all other rows have no exception
        kept, test = [], part.test
        for i in found:
            for key, read in reads:
                record[key] = read(i)
            if test(record):
                kept.append(i)
        return kept

    @staticmethod
    def _column(chunk: Chunk, key: str) -> Any:
        return {
            "state": chunk.states,
            "name": chunk.names,
            "queue": chunk.queues,
            "worker": chunk.workers,
        }[key]

    def _reader(self, chunk: Chunk, key: str) -> Read:
        """A function that reads one record key of a row (fleet/event_record.py makes whole records)."""
        more, ids, texts, now = chunk.more, chunk.ids, chunk.texts, time.time()
        if key in WORDS:
            column, word = self._column(chunk, key), self._answers.word
            return lambda i: word(key, column[i])
        if key in _TEXTS:
            number = _TEXTS[key]

            def text(i: int) -> str | None:
                parts = texts[i].split(_SEP)
                return (parts[number] if len(parts) > number else "") or None

            return text
        readers: dict[str, Read] = {
            "id": ids.__getitem__,
            "at": chunk.updated.__getitem__,
            "tries": lambda i: chunk.retries[i] + 1,
            "runtime_s": lambda i: ran(chunk, i, now),
            "wait_s": lambda i: waited(chunk, i),
            "exc": lambda i: ((found := more.get(i)) and found.exception) or None,
            "root_id": lambda i: ((found := more.get(i)) and found.root_id) or ids[i],
        }
        return readers[key]


class _Answers(dict[Any, bool]):
    """Whether a combination of word codes matches; evaluated once for each."""

    def __init__(self, table: TaskTable, keys: Sequence[str], tests: Sequence[Test]) -> None:
        super().__init__()
        self._table, self._keys, self._tests = table, keys, tests

    def __missing__(self, code: Any) -> bool:
        codes = (code,) if len(self._keys) == 1 else code
        record = {key: self.word(key, one) for key, one in zip(self._keys, codes, strict=True)}
        found = self[code] = all(test(record) for test in self._tests)
        return found

    def word(self, key: str, code: int) -> str | None:
        """The word for a code."""
        if key == "state":
            return _STATE_WORDS[code]
        words = {"name": self._table.names, "queue": self._table.queues, "worker": self._table.workers}
        return words[key].words[code] or None


def waited(chunk: Chunk, i: int) -> float | None:
    """Seconds from when it was sent, or due if that is later, to its start or receipt; None if one of the
    times is unknown."""
    more = chunk.more.get(i)
    return waited_s(
        chunk.ids[i],
        chunk.retries[i],
        chunk.sent[i] or None,
        more.eta if more is not None else "",
        chunk.started[i] or chunk.received[i] or None,
    )


def ran(chunk: Chunk, i: int, now: float) -> float | None:
    """Seconds that it ran, or has been running until now (epoch seconds); None if that is unknown."""
    if chunk.states[i] == SUCCESS:
        return chunk.runtimes[i]
    return max(now - chunk.started[i], 0.0) if chunk.states[i] == STARTED and chunk.started[i] else None


def _with_traces(chunk: Chunk, found: Sequence[int], traces: Iterable[SubstringHint]) -> Sequence[int]:
    """Rows that contain, for each hint, one of its substrings anywhere in their texts; among hints with one
    substring, the rarest is searched in all rows at once."""
    texts, rest = chunk.texts, []
    rarest = len(texts) // 4, "", ""
    plain = lower = ""
    for trace in traces:
        if trace.key not in _TEXTS:
            continue
        plain = plain or _ROW_END.join(texts)
        everything, pieces = plain, trace.any_of
        if trace.caseless:
            everything = lower = lower or plain.lower()
            pieces = tuple(piece.lower() for piece in pieces)
        if len(pieces) == 1:
            number = everything.count(pieces[0])
            if not number:
                return []
            rarest = min(rarest, (number, pieces[0], everything))
        rest.append((trace.caseless, pieces))
    _, piece, everything = rarest
    if piece and everything.count(_ROW_END) == len(texts) - 1:
        rows = set(_rows_with(everything, piece))
        found = [i for i in found if i in rows]
    for caseless, pieces in rest:
        if caseless:
            found = [i for i in found if any(piece in texts[i].lower() for piece in pieces)]
        else:
            found = [i for i in found if any(piece in texts[i] for piece in pieces)]
    return found


def _rows_with(everything: str, piece: str) -> Iterator[int]:
    """The indexes of the rows of a joined text that contain the substring."""
    row = seen = 0
    at = everything.find(piece)
    while at >= 0:
        row += everything.count(_ROW_END, seen, at)
        yield row
        seen = everything.find(_ROW_END, at)
        if seen < 0:
            return
        at = everything.find(piece, seen)
