"""Failures by task and exception from events, for failures that the store of failed tasks lacks.

In:  the table of tasks, to which another thread may add.  Out: FailureRows that are not exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from qcore.events.store.columns import Chunk, More
from qcore.events.store.table import FAILURE, TaskTable
from qctl.dashboard.state.snapshot import FailureRow

#: at most this number of remembered errors is read
MOST = 50_000


def seen_failures(table: TaskTable, known: Iterable[FailureRow] = ()) -> tuple[FailureRow, ...]:
    """Groups that are not in `known`, largest first."""
    groups: dict[tuple[int, str], list[tuple[Chunk, int]]] = {}
    for chunk, i, more in islice(_errors(table), MOST):
        if i < len(chunk.runtimes) and chunk.states[i] == FAILURE:
            kind = more.exception.partition("(")[0][:80]
            groups.setdefault((chunk.names[i], kind), []).append((chunk, i))
    have = {(k.name, k.exc_type) for k in known}
    rows = []
    for (code, kind), members in groups.items():
        name = table.names.words[code]
        if (name, kind) in have:
            continue
        try:
            newest, first = (table.get(chunk.ids[i]) for chunk, i in (members[-1], members[0]))
        except IndexError:
            continue  # dropped from the table meanwhile
        if newest is None or first is None:
            continue
        rows.append(
            FailureRow(
                name,
                kind,
                newest.queue,
                len(members),
                first.ended or first.updated,
                newest.ended or newest.updated,
                newest,
                False,
            )
        )
    return tuple(sorted(rows, key=lambda r: (-r.count, r.name)))


def _errors(table: TaskTable) -> Iterator[tuple[Chunk, int, More]]:
    """Rows with an exception, in the order of arrival."""
    for chunk in list(table.chunks.values()):
        for i, more in list(chunk.more.items()):
            if more.exception:
                yield chunk, i, more
