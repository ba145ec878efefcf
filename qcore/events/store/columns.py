"""Columns of tasks: numbers in arrays, names as numbers, ids and arguments; 4,096 rows a chunk.

In and out: rows, which table.py adds, fills and drops.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence

import msgspec

from qcore.events.store.ids import Ids

BITS = 12
ROWS = 1 << BITS
MASK = ROWS - 1
MOST_WORDS = 65_000
NO_TEXT = sys.getsizeof("")


class More(msgspec.Struct, gc=False):
    """Fields that only some tasks have."""

    exception: str = ""
    traceback: str = ""
    eta: str = ""
    expires: str = ""
    routing_key: str = ""
    root_id: str = ""
    parent_id: str = ""


class Words:
    """Words by number; 0 is the empty word. Beyond the maximum, all further words share one number."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {"": 0}
        self.words: list[str] = [""]

    def code(self, word: str) -> int:
        found = self.codes.get(word)
        if found is None:
            if len(self.words) >= MOST_WORDS:
                word = "(others)"
                if word in self.codes:
                    return self.codes[word]
            found = self.codes[word] = len(self.words)
            self.words.append(sys.intern(word[:255]))
        return found

    def where(self, fits: Callable[[str], bool]) -> frozenset[int]:
        """Numbers of the words for which fits() is true."""
        return frozenset(i for i, word in enumerate(self.words) if fits(word))


class Chunk:
    """Up to ROWS tasks, column by column."""

    __slots__ = (
        *("ids", "more", "texts", "states", "names", "workers", "queues", "retries"),
        *("sent", "received", "started", "ended", "updated", "runtimes", "text_bytes"),
    )

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self.more: dict[int, More] = {}  # by place
        self.texts: list[str] = []  # args, kwargs, result
        self.states = bytearray()
        self.retries = bytearray()
        self.names, self.workers, self.queues = array("H"), array("H"), array("H")
        self.sent, self.received, self.started = array("d"), array("d"), array("d")
        self.ended, self.updated = array("d"), array("d")
        self.runtimes = array("f")
        self.text_bytes = 0

    def add(self, key: bytes) -> None:
        """Append a row."""
        self.ids.append(key)
        self.texts.append("")
        self.states.append(0)
        self.retries.append(0)
        self.names.append(0)
        self.workers.append(0)
        self.queues.append(0)
        self.sent.append(0.0)
        self.received.append(0.0)
        self.started.append(0.0)
        self.ended.append(0.0)
        self.updated.append(0.0)
        self.runtimes.append(0.0)

    def measure(self) -> None:
        """Count the bytes of the texts."""
        self.text_bytes = sum(map(sys.getsizeof, self.texts)) - NO_TEXT * len(self.texts)

    def drop(self, places: Sequence[int]) -> list[int]:
        """Delete these rows (ascending order); returns the remaining places from the first deleted on."""
        first, behind = places[0], places[-1] + 1
        leaving = set(places)
        staying = [i for i in range(first, behind) if i not in leaving]
        self.more = {i - bisect_left(places, i): m for i, m in self.more.items() if i not in leaving}
        moved = [*staying, *range(behind, len(self.ids))]
        for name in Chunk.__slots__[2:-1]:
            column = getattr(self, name)
            kept = [column[i] for i in staying]
            same = array(column.typecode, kept) if isinstance(column, array) else type(column)(kept)
            if len(column) - len(places) < ROWS // 2:
                # A new column: one that shrinks in place leaves a gap in memory that no other fits into.
                setattr(self, name, column[:first] + same + column[behind:])
            else:
                column[first:behind] = same
        self.ids.keep(moved, first)
        self.measure()
        return moved

    def extend(self, other: Chunk) -> None:
        """Append the rows of another chunk."""
        self.more |= {len(self.states) + i: more for i, more in other.more.items()}
        self.text_bytes += other.text_bytes
        for key in other.ids.keys(range(len(other.ids))):
            self.ids.append(key)
        for name in Chunk.__slots__[2:-1]:
            getattr(self, name).extend(getattr(other, name))
