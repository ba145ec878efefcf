"""Failures by task and exception as events told of them, where no store of failed tasks has them.

In:  the table of tasks, which another thread may add to.  Out: FailureRows that are not exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from qcore.events.store.columns import Chunk, More
from qcore.events.store.table import FAILURE, TaskTable
from qctl.dashboard.state.snapshot import FailureRow

#: of so many remembered errors at most
MOST = 50_000


def seen_failures(table: TaskTable, known: Iterable[FailureRow] = ()) -> tuple[FailureRow, ...]:
    """Groups that are not among the known, the most first."""
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
            continue  # forgotten just now
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
    """What has an exception, in the order of arrival."""
    for chunk in list(table.chunks.values()):
        for i, more in list(chunk.more.items()):
            if more.exception:
                yield chunk, i, more
