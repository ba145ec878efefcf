"""Failed tasks as rows of the SQLite file; these steps run inside a transaction.

`at_us` is the time of the failure in microseconds, each once, so that pages have an order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from qcore.brokers.contract.failed_tasks import SWEPT_WITH_EACH, FailedTaskLimits
from qcore.brokers.sqlite.database import Connection
from qcore.wire.failure import FailedTask, split


def store_failed_tasks(db: Connection, failures: Sequence[FailedTask], limits: FailedTaskLimits) -> None:
    now = time.time()
    (last,) = db.execute("SELECT max(at_us) FROM failures").fetchone()
    first = max(int(now * 1e6), (last or 0) + 1)
    until = None if limits.ttl_s is None else now + limits.ttl_s
    rows = [(first + i, f.task_id, until, *split(f)) for i, f in enumerate(failures)]
    sql = "INSERT INTO failures (at_us, task_id, expires_at, facts, detail) VALUES (?,?,?,?,?)"
    for row in rows:  # one task may occur twice
        db.execute("DELETE FROM failures WHERE task_id=?", (row[1],))
        db.execute(sql, row)
    sweep(db, limits, now, SWEPT_WITH_EACH * len(failures))


def sweep(db: Connection, limits: FailedTaskLimits, now: float, most: int) -> None:
    """Delete at most `most` failures that exceed the maximum age or number."""
    expired = "at_us IN (SELECT at_us FROM failures WHERE expires_at<=? ORDER BY at_us LIMIT ?)"
    db.execute(f"DELETE FROM failures WHERE {expired}", (now, most))
    (kept,) = db.execute("SELECT n FROM counters WHERE name='failures'").fetchone()
    over = min(kept - limits.most, most)
    if over > 0:
        oldest = "at_us IN (SELECT at_us FROM failures ORDER BY at_us LIMIT ?)"
        db.execute(f"DELETE FROM failures WHERE {oldest}", (over,))
        db.execute("UPDATE counters SET n=n+? WHERE name='failures_dropped'", (over,))
