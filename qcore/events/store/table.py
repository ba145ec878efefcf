"""A million tasks in memory: columns instead of objects, in chunks that are dropped one at a time.

In:  task events.  Out: tasks as records, newest or oldest first; row numbers that match conditions.
Before this: state.py, which also keeps the workers.  A late event never reverts a state.

Each task is a row of a chunk of 4,096. Names, workers and queues are numbers into tables of words, times
are doubles, arguments one string; rare fields (errors, workflow) are separate. The oldest chunk is
dropped when there are too many tasks or bytes: successful tasks first, later the rest.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from qcore.events.store.columns import BITS, MASK, ROWS, Chunk, More, Words
from qcore.events.store.ids import ODD_BYTES, Ids, Index, odd_key, uuid_key
from qcore.wire.event import LARGEST, Event

TEXT_LIMIT = 1024
#: the cost of a row without its texts: columns, the id, the index (bytes, measured)
ROW_BYTES = 135
MORE_BYTES = 400
#: the index has space for this many rows without growing
MOST_EXPECTED = 1_000_000
#: number of the tasks of the latest events, whose rows are found without an index search
NEAR = 20_000
#: results arrive after arguments, so the texts of this many chunks are measured when a new one begins
MEASURED = 2
#: successful tasks are dropped first, while the rest is at most this share of all tasks; failed ones
#: are next, while unfinished ones are at most that share
FAILED_SHARE, OPEN_SHARE = 0.1, 0.5

#: ENDED: no worker holds it any more, and no event reported how it ended (repair.py)
STATES = ("PENDING", "RETRY", "REJECTED", "RECEIVED", "STARTED", "ENDED", "REVOKED", "FAILURE", "SUCCESS")
#: the state that follows each task event
STATE_OF = {
    "task-sent": "PENDING",
    "task-received": "RECEIVED",
    "task-started": "STARTED",
    "task-succeeded": "SUCCESS",
    "task-failed": "FAILURE",
    "task-rejected": "REJECTED",
    "task-revoked": "REVOKED",
    "task-retried": "RETRY",
    "task-cancelled": "RETRY",
}
CODE_OF = {kind: STATES.index(state) for kind, state in STATE_OF.items()}
PENDING, RETRY, REJECTED, RECEIVED, STARTED, ENDED, REVOKED, FAILURE, SUCCESS = range(9)
WELL = frozenset((SUCCESS, REVOKED, ENDED))
ENDS = WELL | {FAILURE}
READY = frozenset(("SUCCESS", "FAILURE", "REVOKED", "ENDED"))
_SEP = "\x1f"


class TaskSeen(msgspec.Struct):
    """One task as described by its events. Times are epoch seconds, None: no such event was received."""

    uuid: str
    name: str = ""
    state: str = "PENDING"
    worker: str = ""
    sent: float | None = None
    received: float | None = None
    started: float | None = None
    ended: float | None = None
    runtime: float | None = None
    retries: int = 0
    args: str = ""
    kwargs: str = ""
    result: str = ""
    exception: str = ""
    traceback: str = ""
    eta: str = ""
    expires: str = ""
    queue: str = ""
    routing_key: str = ""
    root_id: str = ""
    parent_id: str = ""
    updated: float = 0.0

    @property
    def is_ready(self) -> bool:
        return self.state in READY


class TaskTable:
    """Tasks by id, in the order of their first events."""

    def __init__(self, max_tasks: int, max_bytes: int | None = None) -> None:
        self.max_tasks, self.max_bytes = max_tasks, max_bytes
        self._index, self._odd = Index(min(max_tasks, MOST_EXPECTED)), dict[bytes, str]()
        self._near: dict[str, int] = {}
        self._size = 0
        self.chunks: dict[int, Chunk] = {}
        self.names, self.workers, self.queues = Words(), Words(), Words()
        self._more_bytes = 0
        self.totals = [0] * len(STATES)
        self.forgotten = 0
        #: changes whenever rows are renumbered
        self.generation = 0
        #: number of tasks that have ended (succeeded, failed), by the numbers of the words of their queue and
        #: worker: queue << 16 | worker
        self.ended_in: dict[int, int] = {}
        self._next = 0  # the number of the next chunk
        self._last = self._new_chunk()

    def __len__(self) -> int:
        return self._size

    def row(self, uuid: str) -> int | None:
        """The row of a task, None if it is unknown."""
        row = self._near.get(uuid)
        return self._index.find(uuid_key(uuid) or odd_key(uuid), self._holds) if row is None else row

    def _holds(self, row: int, key: bytes) -> bool:
        chunk = self.chunks.get(row >> BITS)
        return chunk is not None and chunk.ids.has(row & MASK, key)

    # --- events in

    def take(self, code: int, event: Event, uuid: str) -> None:
        """Apply a task event; code is that of CODE_OF for its type."""
        row = self._near.get(uuid)
        if row is None:
            row = self._row_of(uuid)
        chunk = self.chunks[row >> BITS]
        i = row & MASK
        stamp = float(event["timestamp"])
        if stamp > chunk.updated[i]:
            chunk.updated[i] = stamp
        if code == SUCCESS:
            chunk.ended[i] = stamp
            result = event.get("result")
            if result is not None:
                self._add_result(chunk, i, result)
            runtime = event.get("runtime")
            if type(runtime) is float or (type(runtime) is int and 0 <= runtime < LARGEST):
                chunk.runtimes[i] = runtime
            if not chunk.workers[i]:
                chunk.workers[i] = self.workers.code(event["hostname"])
        elif code == STARTED:
            # Started already: its worker was lost, and this one runs it again.
            if not chunk.workers[i] or (chunk.states[i] == STARTED and stamp > chunk.started[i]):
                chunk.workers[i] = self.workers.code(event["hostname"])
            chunk.started[i] = stamp
        else:
            self._facts(chunk, i, code, event, uuid, stamp)
        old = chunk.states[i]
        # States are numbered so that the higher one wins. A retry may follow any state that is not final; the
        # states of the next attempt are higher again.
        if code > old or (code == RETRY and old <= ENDED):
            chunk.states[i] = code
            self.totals[old] -= 1
            self.totals[code] += 1
            if code >= FAILURE:
                where = chunk.queues[i] << 16 | chunk.workers[i]
                self.ended_in[where] = self.ended_in.get(where, 0) + 1

    def settle(self, uuid: str, code: int) -> None:
        """Mark the task as ended from a source other than its events; the end time is unknown."""
        row = self._row_of(uuid)
        states = self.chunks[row >> BITS].states
        old = states[row & MASK]
        states[row & MASK] = code
        self.totals[old] -= 1
        self.totals[code] += 1

    def name(self, uuid: str, name: str) -> None:
        """Name a task of which no event with its name was received; nothing if it is unknown."""
        row = self.row(uuid)
        if row is not None:
            self.chunks[row >> BITS].names[row & MASK] = self.names.code(name)

    def note(self, event: Event, uuid: str) -> None:
        """Apply a custom task event, which changes no state."""
        row = self._near.get(uuid)
        if row is None:
            row = self._row_of(uuid)
        chunk = self.chunks[row >> BITS]
        chunk.updated[row & MASK] = max(chunk.updated[row & MASK], float(event["timestamp"]))
        name = event.get("name")
        if type(name) is str and name:
            chunk.names[row & MASK] = self.names.code(name)

    def _facts(self, chunk: Chunk, i: int, code: int, event: Event, uuid: str, stamp: float) -> None:
        """Store the fields of the less frequent events, and of those with the most fields."""
        if code == RECEIVED:
            chunk.received[i] = stamp
        elif code == PENDING:
            chunk.sent[i] = stamp
        elif code != RETRY:
            chunk.ended[i] = stamp
        if code != PENDING:
            chunk.workers[i] = self.workers.code(event["hostname"])
        name = event.get("name")
        if type(name) is str and name:
            chunk.names[i] = self.names.codes.get(name) or self.names.code(name)
        queue = event.get("queue")
        if type(queue) is str and queue:
            chunk.queues[i] = self.queues.code(queue)
        retries = event.get("retries")
        if type(retries) is int and retries > 0:
            chunk.retries[i] = min(retries, 255)
        args, kwargs = event.get("args"), event.get("kwargs")
        if args is not None or kwargs is not None:
            old = chunk.texts[i]
            result = old.rpartition(_SEP)[2] if old else ""
            chunk.texts[i] = f"{_text(args)}{_SEP}{_text(kwargs)}{_SEP}{result}"
        self._add_more(chunk, i, event, uuid)

    def _add_result(self, chunk: Chunk, i: int, result: Any) -> None:
        old = chunk.texts[i]
        chunk.texts[i] = f"{old.rpartition(_SEP)[0] or _SEP}{_SEP}{_text(result)}"

    def _add_more(self, chunk: Chunk, i: int, event: Event, uuid: str) -> None:
        found: dict[str, str] = {}
        for field in ("exception", "eta", "expires", "routing_key"):
            value = event.get(field)
            if value is not None:
                found[field] = _text(value)
        if (trace := event.get("traceback")) is not None:
            found["traceback"] = _ends(str(trace))
        root, parent = event.get("root_id"), event.get("parent_id")
        if type(root) is str and root != uuid:
            found["root_id"] = sys.intern(root[:255])
        if type(parent) is str:
            found["parent_id"] = sys.intern(parent[:255])
        if found:
            more = chunk.more.get(i)
            if more is None:
                more = chunk.more[i] = More()
                self._more_bytes += MORE_BYTES
            for field, value in found.items():
                self._more_bytes += len(value) - len(getattr(more, field))
                setattr(more, field, value)

    def _row_of(self, uuid: str) -> int:
        """The row of a task; adds one if it has none."""
        key = uuid_key(uuid)
        if key is None:
            self._odd[key := odd_key(uuid)] = uuid
        chunk = self._last
        if len(chunk.states) >= ROWS:
            chunk = self._last = self._new_chunk()
        free = (self._next - 1) << BITS | len(chunk.states)
        row = self._index.find_or_add(key, free, self._holds)
        if row == free:
            chunk.add(key)
            self._size += 1
            self.totals[PENDING] += 1
            if self._size > self.max_tasks:
                self._forget()  # which may renumber rows
                row = self._index.find_or_add(key, free, self._holds)
        if len(self._near) >= NEAR:
            self._near.clear()
        self._near[uuid] = row
        return row

    def _new_chunk(self) -> Chunk:
        if self.max_bytes is not None:
            for number in range(max(0, self._next - MEASURED), self._next):
                if number in self.chunks:
                    self.chunks[number].measure()
        chunk = self.chunks[self._next] = Chunk(Ids(self._odd))
        self._next += 1
        while self.max_bytes is not None and len(self.chunks) > 1 and self.size() > self.max_bytes:
            self._forget()
        return chunk

    def size(self) -> int:
        """The approximate memory in bytes. Texts are counted only when there is a limit, and those of the
        newest chunk not yet."""
        texts = sum(c.text_bytes for c in self.chunks.values())
        return self._size * ROW_BYTES + len(self._odd) * ODD_BYTES + texts + self._more_bytes

    # --- forgetting

    def _forget(self) -> None:
        """Drop the oldest chunk's tasks in the states that go first; in the newest chunk, the only one of a
        small table, a few of the oldest."""
        leaving = self._leaving()
        before = None
        for number in list(self.chunks):
            states = self.chunks[number].states
            gone = [i for i, state in enumerate(states) if state in leaving]
            if gone:
                break
            before = number  # its number, if it keeps some tasks
        if number == self._next - 1:
            gone = gone[: max(1, len(states) // 16)]
        if gone:
            self._drop(number, gone)
        if before is not None and number in self.chunks:
            self._join(before, number)

    def _leaving(self) -> frozenset[int]:
        """The states that are dropped next."""
        for states, share in ((WELL, FAILED_SHARE), (ENDS, OPEN_SHARE)):
            number = sum(self.totals[state] for state in states)
            if number and self._size - number <= self._size * share:
                return states
        return frozenset(range(len(STATES)))

    def _drop(self, number: int, places: list[int]) -> None:
        chunk, base = self.chunks[number], number << BITS
        self.generation += 1  # twice, so that a reader who started in between detects it too
        self._near.clear()
        keys = chunk.ids.keys(places)
        self._index.remove(keys, [base | i for i in places])
        if self._odd:
            for key in keys:
                self._odd.pop(key, None)
        for more in map(chunk.more.__getitem__, chunk.more.keys() & places):
            self._more_bytes -= MORE_BYTES + sum(len(getattr(more, f)) for f in more.__struct_fields__)
        for state, count in Counter(map(chunk.states.__getitem__, places)).items():
            self.totals[state] -= count
        self.forgotten += len(places)
        self._size -= len(places)
        if len(places) == len(chunk.ids) and number != self._next - 1:
            del self.chunks[number]
            return
        before = chunk.drop(places)
        first = places[0]
        self._renumbered(chunk, first, [base | i for i in before], base | first)
        self.generation += 1

    def _join(self, before: int, number: int) -> None:
        """Append the rest of a chunk to the previous one, because few rows do not justify a chunk."""
        into, chunk = self.chunks[before], self.chunks[number]
        first, size = len(into.states), len(chunk.states)
        if number == self._next - 1 or first + size > ROWS:
            return
        self.generation += 1
        into.extend(chunk)
        base = number << BITS
        self._renumbered(into, first, range(base, base + size), before << BITS | first)
        del self.chunks[number]
        self.generation += 1

    def _renumbered(self, chunk: Chunk, first: int, old: Sequence[int], new: int) -> None:
        """Update the index: the rows of a chunk from `first` on had the numbers `old`, now `new` and up."""
        keys = chunk.ids.keys(range(first, first + len(old)))
        self._index.move(keys, old, range(new, new + len(old)))

    # --- tasks out

    def get(self, uuid: str) -> TaskSeen | None:
        row = self.row(uuid)
        return None if row is None else self.task(row)

    def id(self, row: int) -> str:
        """The id of a row."""
        return self.chunks[row >> BITS].ids[row & MASK]

    def task(self, row: int) -> TaskSeen:
        """The task of a row as a separate record."""
        chunk, i = self.chunks[row >> BITS], row & MASK
        uuid = chunk.ids[i]
        args, _, rest = chunk.texts[i].partition(_SEP)
        kwargs, _, result = rest.partition(_SEP)
        state = chunk.states[i]
        task = TaskSeen(
            uuid,
            self.names.words[chunk.names[i]],
            STATES[state],
            self.workers.words[chunk.workers[i]],
            chunk.sent[i] or None,
            chunk.received[i] or None,
            chunk.started[i] or None,
            chunk.ended[i] or None,
            chunk.runtimes[i] if state == SUCCESS else None,
            chunk.retries[i],
            args,
            kwargs,
            result,
            queue=self.queues.words[chunk.queues[i]],
            updated=chunk.updated[i],
        )
        more = chunk.more.get(i)
        if more is not None:
            for field in more.__struct_fields__:
                setattr(task, field, getattr(more, field))
        task.root_id = task.root_id or (uuid if task.received else "")
        return task

    def family(self, root_id: str) -> list[TaskSeen]:
        """The remembered tasks of a workflow, by the id of its root, in the order of their arrival."""
        root = self.row(root_id)
        rows = {root} if root is not None else set()
        for number, chunk in list(self.chunks.items()):
            rows.update(number << BITS | i for i, more in list(chunk.more.items()) if more.root_id == root_id)
        return [self.task(row) for row in sorted(rows)]

    def rows(self, newest_first: bool = True) -> Iterator[int]:
        """Every row, in the order of the tasks' first events."""
        numbers = list(self.chunks)
        for number in reversed(numbers) if newest_first else numbers:
            places = range(len(self.chunks[number].ids))
            base = number << BITS
            for i in reversed(places) if newest_first else places:
                yield base | i

    def at(self, position: int, newest_first: bool = True) -> int:
        """The row at a position of that order; raises IndexError."""
        left = position
        numbers = list(self.chunks)
        for number in reversed(numbers) if newest_first else numbers:
            size = len(self.chunks[number].ids)
            if left < size:
                return number << BITS | (size - 1 - left if newest_first else left)
            left -= size
        raise IndexError(position)

    def search(
        self,
        states: frozenset[str] | None = None,
        names: Callable[[str], bool] | None = None,
        queues: frozenset[str] | None = None,
        since: float | None = None,
        needles: Sequence[str] = (),
    ) -> Iterator[int]:
        """Rows that may match, newest first: of these states, names and queues, with an event since then,
        and with all needles in their arguments or result. Columns are searched in turn, each only
        where the previous ones left something."""
        codes = None if states is None else bytes(STATES.index(s) for s in states if s in STATES)
        of_state = re.compile(b"[" + re.escape(codes) + b"]" if codes else b"(?!)")
        name_codes = None if names is None else self.names.where(names)
        queue_codes = None if queues is None else self.queues.where(queues.__contains__)
        for number in reversed(list(self.chunks)):
            chunk = self.chunks[number]
            found: Any = range(len(chunk.ids))
            if codes is not None:
                found = [match.start() for match in of_state.finditer(bytes(chunk.states))]
            if name_codes is not None:
                column = chunk.names
                found = [i for i in found if column[i] in name_codes]
            if queue_codes is not None:
                column = chunk.queues
                found = [i for i in found if column[i] in queue_codes]
            if since is not None:
                times = chunk.updated
                found = [i for i in found if times[i] >= since]
            for needle in needles:
                texts = chunk.texts
                found = [i for i in found if needle in texts[i]]
            base = number << BITS
            for i in reversed(found):
                yield base | i


def _ends(text: str) -> str:
    """A long traceback without its middle: its start and the error itself matter most."""
    if len(text) <= 2 * TEXT_LIMIT:
        return text
    return f"{text[:TEXT_LIMIT]}\n  (…)\n{text[-TEXT_LIMIT:]}"


def _text(value: Any) -> str:
    text = value if type(value) is str else "" if value is None else str(value)
    return text[:TEXT_LIMIT] if len(text) > TEXT_LIMIT else text
