"""What happened in each 15 seconds of a recording: the lines of its index.

In:  batches of events with our clock.  Out: Slots, one for each 15 s in which somebody listened, with or
without events. A missing slot is a gap. After this: segments.py writes them, reading.py finds moments by
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import msgspec

from qcore.base.histogram import fine_bucket
from qcore.events.state import State
from qcore.events.store.columns import BITS, MASK
from qcore.wire.event import Event

SLOT_S = 15
#: seconds of a fold: what is older than some hours is shown in steps of this length
FOLD_S = 120
#: task names, kinds of failures, workers and queues that one slot tells apart
MOST_TYPES, MOST_GROUPS, MOST_WORKERS, MOST_QUEUES = 100, 100, 1_000, 200
#: tasks whose names are remembered: only task-received tells them
REMEMBERED = 50_000
#: the type of an event of qctl itself: nothing was received since `since`
GAP = "gap"


class TypeCount(msgspec.Struct, array_like=True):
    """One task name in one slot."""

    ended: int = 0
    failed: int = 0
    busy_s: float = 0.0
    longest_s: float = 0.0


class Slot(msgspec.Struct, omit_defaults=True):
    """One slot of 15 seconds."""

    at: int  # epoch seconds, a multiple of SLOT_S
    offset: int = 0  # bytes of the segment before the first piece with an event of this slot
    events: int = 0
    kinds: dict[str, int] = {}  # events by type
    types: dict[str, TypeCount] = {}  # ended tasks by name
    failures: list[tuple[str, str, int]] = []  # task name, class of the exception, count
    workers: list[str] = []
    missed: int = 0  # events that never arrived, by the workers' sequence numbers
    run: dict[int, int] = {}  # run times: fine bucket -> tasks
    wait: dict[int, int] = {}  # times in a queue: fine bucket -> tasks
    ready: dict[str, int] | None = None  # messages that are ready, by queue; None: unknown
    heard: int = 1  # slots of SLOT_S that are counted here; a fold has more than one

    @property
    def ended(self) -> int:
        return self.kinds.get("task-succeeded", 0) + self.failed

    @property
    def failed(self) -> int:
        return self.kinds.get("task-failed", 0)


class SlotCounter:
    """Counts batches into slots."""

    def __init__(self) -> None:
        self._state = State(REMEMBERED)
        self._missed = 0
        self._slot: Slot | None = None
        self._groups: dict[tuple[str, str], int] = {}
        self._workers: dict[str, None] = {}

    @property
    def current(self) -> Slot | None:
        """The slot that has not ended yet."""
        return self._slot

    def advance(self, now: float, offset: int = 0) -> Slot | None:
        """Let the time pass; the slot that ended with it, if any. offset: where the next event is written."""
        at = int(now // SLOT_S) * SLOT_S
        if self._slot is not None and self._slot.at == at:
            return None
        ended = self.close()
        self._slot = Slot(at, offset)
        return ended

    def close(self) -> Slot | None:
        """End the current slot."""
        slot, self._slot = self._slot, None
        if slot is None:
            return None
        slot.failures = [(name, kind, count) for (name, kind), count in self._groups.items()]
        slot.workers = list(self._workers)
        missed = sum(worker.missed for worker in self._state.workers.values())
        slot.missed, self._missed = max(missed - self._missed, 0), missed
        self._groups, self._workers = {}, {}
        return slot

    def add(self, batch: Sequence[Event], now: float) -> None:
        """Count events of the current slot."""
        slot = self._slot
        if slot is None:
            return
        self._state.fold(batch, now)
        slot.events += len(batch)
        kinds, workers = slot.kinds, self._workers
        for event in batch:
            kind = event["type"]
            kinds[kind] = kinds.get(kind, 0) + 1
            if kind != "task-sent" and kind != GAP and len(workers) < MOST_WORKERS:
                node = event.get("hostname")
                if isinstance(node, str):
                    workers[node] = None
            if kind == "task-succeeded" or kind == "task-failed":
                self._ended(slot, event, kind == "task-failed")

    def _ended(self, slot: Slot, event: Event, failed: bool) -> None:
        uuid, table = event.get("uuid"), self._state.table
        row = table.row(uuid) if isinstance(uuid, str) else None
        if row is None:
            return
        chunk, i = table.chunks[row >> BITS], row & MASK
        name = table.names.words[chunk.names[i]]
        sent, began, ended = chunk.sent[i], chunk.started[i], chunk.ended[i]
        run_s = chunk.runtimes[i] or (max(ended - began, 0.0) if began and ended else 0.0)
        run_s = run_s if 0 <= run_s < 1e7 else 0.0
        if name not in slot.types and len(slot.types) >= MOST_TYPES:
            name = ""
        one = slot.types.setdefault(name, TypeCount())
        one.ended += 1
        one.failed += failed
        one.busy_s = round(one.busy_s + run_s, 6)
        one.longest_s = max(one.longest_s, round(run_s, 6))
        if run_s:
            number = fine_bucket(run_s)
            slot.run[number] = slot.run.get(number, 0) + 1
        more = chunk.more.get(i)
        if sent and began and not chunk.retries[i] and not (more is not None and more.eta):
            number = fine_bucket(max(began - sent, 0.0))
            slot.wait[number] = slot.wait.get(number, 0) + 1
        if failed:
            kind = _class_of(more.exception if more is not None else "")
            if (name, kind) in self._groups or len(self._groups) < MOST_GROUPS:
                self._groups[name, kind] = self._groups.get((name, kind), 0) + 1


def merged(slots: Sequence[Slot]) -> Slot:
    """One slot with the counts of several, the oldest first; the backlogs are the last ones known."""
    first = slots[0]
    whole = Slot(first.at, first.offset, heard=0)
    groups, workers = dict[tuple[str, str], int](), dict[str, None]()
    for slot in slots:
        whole.heard += slot.heard
        whole.events += slot.events
        whole.missed += slot.missed
        whole.ready = slot.ready if slot.ready is not None else whole.ready
        for counts, sums in ((slot.run, whole.run), (slot.wait, whole.wait)):
            for number, count in counts.items():
                sums[number] = sums.get(number, 0) + count
        for kind, count in slot.kinds.items():
            whole.kinds[kind] = whole.kinds.get(kind, 0) + count
        for name, one in slot.types.items():
            if name not in whole.types and len(whole.types) >= MOST_TYPES:
                name = ""
            all_of = whole.types.setdefault(name, TypeCount())
            all_of.ended += one.ended
            all_of.failed += one.failed
            all_of.busy_s = round(all_of.busy_s + one.busy_s, 6)
            all_of.longest_s = max(all_of.longest_s, one.longest_s)
        for task, kind, count in slot.failures:
            if (task, kind) in groups or len(groups) < MOST_GROUPS:
                groups[task, kind] = groups.get((task, kind), 0) + count
        workers.update(dict.fromkeys(slot.workers))
    whole.failures = [(task, kind, count) for (task, kind), count in groups.items()]
    whole.workers = list(workers)[:MOST_WORKERS]
    return whole


def folds(slots: Iterable[Slot]) -> Iterator[Slot]:
    """The slots of each FOLD_S seconds as one."""
    for _, group in groupby(slots, lambda slot: slot.at // FOLD_S):
        yield merged(list(group))


def _class_of(exception: str) -> str:
    return exception.partition("(")[0][:80].rpartition(".")[2] or "?"
