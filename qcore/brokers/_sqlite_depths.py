"""How many messages are where in the SQLite file, of many queues at once.

In:  names of queues.  Out: a Depth of each, from three queries over the indexes.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcore.brokers._administration import Depth
from qcore.brokers._sqlite_file import File

#: what is ready, by queue and priority, with the first of each; the first is the oldest of its priority
_READY = (
    "SELECT heads.queue, heads.n, m.ready_at FROM (SELECT queue, priority, min(position) AS first,"
    " count(*) AS n FROM messages WHERE owner IS NULL AND due_at IS NULL{of} GROUP BY queue, priority)"
    " AS heads LEFT JOIN messages AS m ON m.queue=heads.queue AND m.priority=heads.priority"
    " AND m.position=heads.first AND m.owner IS NULL AND m.due_at IS NULL"
)
_DELAYED = (
    "SELECT queue, count(*) FROM messages WHERE owner IS NULL AND due_at IS NOT NULL{of} GROUP BY queue"
)
_HELD = "SELECT queue, count(*) FROM messages WHERE owner IS NOT NULL{of} GROUP BY queue"


def depths(file: File, queues: Sequence[str]) -> list[Depth]:
    """One for each queue, in their order."""
    of, values = (" AND queue=?", (queues[0],)) if len(queues) == 1 else ("", ())
    ready: dict[str, int] = {}
    oldest: dict[str, float] = {}
    for queue, count, ready_at in file.rows(_READY.format(of=of), *values):
        ready[queue] = ready.get(queue, 0) + count
        if ready_at is not None:
            oldest[queue] = min(ready_at, oldest.get(queue, ready_at))
    delayed = dict(file.rows(_DELAYED.format(of=of), *values))
    held = dict(file.rows(_HELD.format(of=of), *values))
    return [
        Depth(
            ready.get(queue, 0),
            delayed.get(queue, 0),
            held.get(queue, 0),
            oldest.get(queue),
        )
        for queue in queues
    ]
