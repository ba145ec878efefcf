"""Failed tasks in the SQLite file: pages of failures, and retries, each as one transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from qcore.base.crashpoints import crashpoint
from qcore.brokers.contract.failed_tasks import (
    FailedTaskCounts,
    FailedTaskLimits,
    FailedTaskPage,
    FailedTaskStore,
    RetryRequest,
)
from qcore.brokers.contract.records import Message
from qcore.brokers.sqlite.consumer import put
from qcore.brokers.sqlite.database import Connection, File
from qcore.brokers.sqlite.failed_task_rows import store_failed_tasks
from qcore.wire.failure import FailedTask, join


class SqliteFailedTasks(FailedTaskStore):
    """Failed tasks of one file."""

    def __init__(self, file: File, limits: FailedTaskLimits) -> None:
        super().__init__("sqlite")
        self._file, self._limits = file, limits

    def store(self, failures: Sequence[FailedTask]) -> None:
        if failures:
            limits = self._limits
            self._file.in_transaction(lambda db: store_failed_tasks(db, failures, limits), durable=True)

    def page(
        self,
        since: float | None = None,
        until: float | None = None,
        limit: int = 500,
        after: str = "",
        whole: bool = False,
    ) -> FailedTaskPage:
        below = int(after) if after else 2**62 if until is None else round(until * 1e6) + 1
        sql = (
            f"SELECT at_us, facts, {'detail' if whole else chr(39) * 2}, retried_as FROM failures"
            " WHERE at_us<? AND at_us>=? AND (expires_at IS NULL OR expires_at>?)"
            " ORDER BY at_us DESC LIMIT ?"
        )
        rows = self._file.rows(sql, below, round((since or 0) * 1e6), time.time(), limit)
        found = [join(facts, detail or b"", at / 1e6, retried) for at, facts, detail, retried in rows]
        return FailedTaskPage(found, str(rows[-1][0]) if len(rows) == limit else "")

    def of(self, task_ids: Sequence[str]) -> list[FailedTask | None]:
        sql = (
            "SELECT at_us, facts, detail, retried_as FROM failures"
            " WHERE task_id IN (SELECT value FROM json_each(?))"
        )
        rows = self._file.rows(sql, json.dumps(list(task_ids)))
        found = {f.task_id: f for at, facts, detail, as_ in rows if (f := join(facts, detail, at / 1e6, as_))}
        return [found.get(task_id) for task_id in task_ids]

    def forget(self, task_ids: Sequence[str]) -> int:
        sql = "DELETE FROM failures WHERE task_id IN (SELECT value FROM json_each(?))"
        wanted = json.dumps(list(task_ids))
        return int(self._file.in_transaction(lambda db: db.execute(sql, (wanted,)).rowcount, durable=True))

    def retry(self, tries: Sequence[RetryRequest]) -> list[str]:
        def write(db: Connection) -> list[str]:
            owners, sent = [], []
            for one in tries:
                note = "UPDATE failures SET retried_as=? WHERE task_id=? AND retried_as=''"
                if db.execute(note, (one.task_id, one.failed_id)).rowcount:
                    sent.append((Message(one.raw, one.queue, priority=one.priority), one.queue))
                    owners.append(one.task_id)
                    continue
                sql = "SELECT retried_as FROM failures WHERE task_id=?"
                row = db.execute(sql, (one.failed_id,)).fetchone()
                owners.append(row[0] if row else "")
            if sent:
                queues = {(queue,) for _, queue in sent}
                db.executemany("INSERT OR IGNORE INTO queues VALUES (?)", queues)
                put(db, sent)
            return owners

        crashpoint("before_publish")
        owners: list[str] = self._file.in_transaction(write, durable=True)
        crashpoint("published")
        self._file.ring({f"q:{one.queue}" for one in tries})
        return owners

    def counts(self) -> FailedTaskCounts:
        counts = dict(self._file.rows("SELECT name, n FROM counters"))
        return FailedTaskCounts(counts["failures"], counts["failures_dropped"])
