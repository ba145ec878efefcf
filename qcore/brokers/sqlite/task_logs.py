"""Task logs in the SQLite file: a row for each line."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from qcore.brokers.contract.task_logs import KEPT_S, TASKS, TaskLogs
from qcore.brokers.sqlite.database import Connection, File

# Created on first use, so that older versions can still use the file.
_TABLE = "CREATE TABLE IF NOT EXISTS lines (id INTEGER PRIMARY KEY, task_id TEXT, at REAL, line BLOB)"
_INDEX = "CREATE INDEX IF NOT EXISTS lines_of ON lines(task_id, id)"
#: rows between two counts of the tasks, since a count reads all rows
COUNT_EVERY = 500


class SqliteTaskLogs(TaskLogs):
    """Task logs of one file."""

    def __init__(self, file: File) -> None:
        super().__init__("sqlite")
        self._file = file

    def append(self, lines: Mapping[str, Sequence[bytes]], most: int) -> None:
        now = time.time()

        def write(db: Connection) -> None:
            db.execute(_TABLE)
            db.execute(_INDEX)
            last = 0
            for task_id, new in lines.items():
                for line in new[-most:]:
                    done = db.execute(
                        "INSERT INTO lines(task_id, at, line) VALUES (?,?,?)", (task_id, now, line)
                    )
                    last = done.lastrowid or 0
                few = "SELECT id FROM lines WHERE task_id=? ORDER BY id DESC LIMIT -1 OFFSET ?"
                db.execute(f"DELETE FROM lines WHERE id IN ({few})", (task_id, most))
            if last % COUNT_EVERY < sum(map(len, lines.values())):
                _forget(db, now)

        self._file.in_transaction(write, durable=False)

    def of(self, task_id: str) -> list[bytes]:
        if not self._file.rows("SELECT 1 FROM sqlite_master WHERE name='lines'"):
            return []
        return [
            row[0] for row in self._file.rows("SELECT line FROM lines WHERE task_id=? ORDER BY id", task_id)
        ]


def _forget(db: Connection, now: float) -> None:
    """Delete expired lines, and those of the tasks that logged longest ago beyond the maximum."""
    old = "SELECT task_id FROM lines GROUP BY task_id HAVING max(at)<?"
    db.execute(f"DELETE FROM lines WHERE task_id IN ({old})", (now - KEPT_S,))
    few = "SELECT task_id FROM lines GROUP BY task_id ORDER BY max(id) DESC LIMIT -1 OFFSET ?"
    db.execute(f"DELETE FROM lines WHERE task_id IN ({few})", (TASKS,))
