"""Failures by task and class, from the store of failed tasks and from events.

In:  the table of tasks, to which another thread may add; the groups of the store with the ids in it.
Out: one FailureRow for each task and class, whoever told of them. A failure that both tell of is one: they
are joined by task id. What only events told is not stored, and its count is what was heard: not exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from qcore.events.store.columns import Chunk, More
from qcore.events.store.table import FAILURE, TaskSeen, TaskTable
from qctl.dashboard.state.snapshot import FailureRow
from qctl.fleet.failure_kinds import key_of, kind_of

#: at most this number of remembered errors is read
MOST = 50_000


class StoredFailures(NamedTuple):
    """The groups of the store; ids: its tasks, retried ones too; complete: whether that is all of them."""

    rows: tuple[FailureRow, ...] = ()
    ids: frozenset[str] = frozenset()
    complete: bool = True


class Heard(NamedTuple):
    """A failure of which an event told."""

    task_id: str
    name: str
    kind: str
    worker: str


def heard_failures(table: TaskTable) -> list[Heard]:
    """The failures that events told of, oldest first."""
    found = []
    for chunk, i, more in islice(_errors(table), MOST):
        if i < len(chunk.runtimes) and chunk.states[i] == FAILURE:
            try:
                one = Heard(
                    chunk.ids[i],
                    table.names.words[chunk.names[i]],
                    kind_of(more.exception, more.traceback)[:80],
                    table.workers.words[chunk.workers[i]],
                )
            except IndexError:
                continue  # dropped from the table meanwhile
            found.append(one)
    return found


def merged(
    table: TaskTable, heard: list[Heard], stored: StoredFailures, stores: Callable[[str], bool]
) -> tuple[FailureRow, ...]:
    """All groups, largest first. heard: read before the store was, or what failed in between would count
    twice. stores(worker): whether what fails there is stored; of a store that was read in part, its workers'
    failures count as stored."""
    groups: dict[tuple[str, str], list[Heard]] = {}
    for one in heard:
        if one.task_id not in stored.ids and (stored.complete or not stores(one.worker)):
            groups.setdefault(key_of(one.name, one.kind), []).append(one)
    rows = []
    for row in stored.rows:
        # Of two classes with the same last part, the first takes what events told.
        rest = groups.pop(key_of(row.name, row.exc_type), [])
        rows.append(_with(replace(row, stored=row.count), rest, table))
    for members in groups.values():
        kind = max((one.kind for one in members), key=len)  # the one with the module, if any has it
        row = FailureRow(members[0].name, kind, "", 0, 0.0, 0.0, None, False, 0)
        rows.append(_with(row, members, table))
    return tuple(sorted((row for row in rows if row.count), key=lambda r: (-r.count, r.name)))


def seen_failures(table: TaskTable) -> tuple[FailureRow, ...]:
    """The groups where there is no store, as in a recording."""
    return merged(table, heard_failures(table), StoredFailures(), lambda worker: False)


def _with(row: FailureRow, members: list[Heard], table: TaskTable) -> FailureRow:
    """The row with these failures added."""
    ids = [one.task_id for one in (*members[:1], *members[-1:])]
    ends = [task for task_id in ids if (task := table.get(task_id)) is not None]
    if not ends:
        return row
    first, newest = ends[0], ends[-1]
    last_at = _ended(newest)
    return replace(
        row,
        count=row.count + len(members),
        exact=False,
        queue=row.queue or newest.queue,
        first_at=min(_ended(first), row.first_at or _ended(first)),
        last_at=max(last_at, row.last_at),
        sample=row.sample if row.sample is not None else newest,
    )


def _ended(task: TaskSeen) -> float:
    return task.ended or task.updated


def _errors(table: TaskTable) -> Iterator[tuple[Chunk, int, More]]:
    """Rows with an exception, in the order of arrival."""
    for chunk in list(table.chunks.values()):
        for i, more in list(chunk.more.items()):
            if more.exception:
                yield chunk, i, more
