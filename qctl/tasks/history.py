"""A history of tasks in a file: what events told, kept for searches long after.

In:  tasks as events tell them (events/table.py).  Out: records for filters, newest first.
A SQLite file of the user, one for each broker. The state and the name are indexed by time, so a search
that names a state or a name looks only at those; the rest of a filter is tried on each.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from qcore.events.table import TaskSeen
from qctl.filters import Filter
from qctl.seen import record_of
from qctl.settings.places import state_dir

COLUMNS = (
    "id name state queue worker exc args kwargs result runtime_s wait_s tries at root_id parent_id "
    "sent_at received_at started_at ended_at traceback"
).split()
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS tasks (
    {", ".join(f"{c} {'TEXT PRIMARY KEY' if c == 'id' else ''}" for c in COLUMNS)}) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_state ON tasks (state, at);
CREATE INDEX IF NOT EXISTS by_name ON tasks (name, at);
CREATE INDEX IF NOT EXISTS by_time ON tasks (at);
CREATE INDEX IF NOT EXISTS by_root ON tasks (root_id);
"""
READ = 5000  # rows at a time


def path_for(place: str) -> Path:
    """Where the history of the broker at this place is."""
    return state_dir() / "history" / f"{hashlib.sha256(place.encode()).hexdigest()[:16]}.db"


class History:
    """One file. Raises OSError, sqlite3.Error."""

    def __init__(self, path: Path, write: bool = False) -> None:
        if write:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        mode = "rwc" if write else "ro"
        self._db = sqlite3.connect(f"file:{path}?mode={mode}", uri=True, isolation_level=None)
        if write:
            self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; {SCHEMA}")

    def close(self) -> None:
        self._db.close()

    # --- writing

    def keep(self, tasks: Iterable[TaskSeen]) -> int:
        """Store these as they are now; how many."""
        rows = [self._row(task) for task in tasks]
        marks = ",".join("?" * len(COLUMNS))
        self._db.execute("BEGIN")
        self._db.executemany(f"INSERT OR REPLACE INTO tasks VALUES ({marks})", rows)
        self._db.execute("COMMIT")
        return len(rows)

    @staticmethod
    def _row(task: TaskSeen) -> tuple[Any, ...]:
        more = {
            "sent_at": task.sent,
            "received_at": task.received,
            "started_at": task.started,
            "ended_at": task.ended,
            "parent_id": task.parent_id or None,
            "traceback": task.traceback or None,
        }
        record = {**record_of(task), **more}
        return tuple(record[c] for c in COLUMNS)

    def forget(self, most: int, older_than: float) -> int:
        """Delete what is too old (epoch seconds) or too much: the oldest first, what failed last."""
        gone = self._db.execute("DELETE FROM tasks WHERE at<?", (older_than,)).rowcount
        (count,) = self._db.execute("SELECT count(*) FROM tasks").fetchone()
        if count > most:
            few = "SELECT id FROM tasks ORDER BY state='failed', at LIMIT ?"
            gone += self._db.execute(f"DELETE FROM tasks WHERE id IN ({few})", (count - most,)).rowcount
        return gone

    # --- reading

    def search(self, wanted: Filter, limit: int | None) -> tuple[list[dict[str, Any]], int]:
        """Records that match, newest first, at most so many; and how many were looked at."""
        found: list[dict[str, Any]] = []
        looked = 0
        for record in self._candidates(wanted):
            looked += 1
            if wanted.matches(record):
                found.append(record)
                if len(found) == limit:
                    break
        return found, looked

    def _candidates(self, wanted: Filter) -> Iterator[dict[str, Any]]:
        hints, conditions, values = wanted.hints, list[str](), list[Any]()
        for column, allowed in (("state", hints.states), ("name", hints.names), ("queue", hints.queues)):
            if allowed is not None:
                conditions.append(f"{column} IN ({','.join('?' * len(allowed))})")
                values += sorted(allowed)
        if hints.since is not None:
            conditions.append("at>=?")
            values.append(hints.since)
        if hints.until is not None:
            conditions.append("at<=?")
            values.append(hints.until)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = self._db.execute(f"SELECT {','.join(COLUMNS)} FROM tasks {where} ORDER BY at DESC", values)
        while some := rows.fetchmany(READ):
            for row in some:
                yield dict(zip(COLUMNS, row, strict=True))

    def get(self, task_id: str) -> dict[str, Any] | None:
        row = self._db.execute(f"SELECT {','.join(COLUMNS)} FROM tasks WHERE id=?", (task_id,)).fetchone()
        return dict(zip(COLUMNS, row, strict=True)) if row else None

    def family(self, root_id: str) -> list[dict[str, Any]]:
        """Every task of a workflow, by its root's id, in the order in which they began."""
        sql = f"SELECT {','.join(COLUMNS)} FROM tasks WHERE root_id=? OR id=? ORDER BY received_at, at"
        return [dict(zip(COLUMNS, row, strict=True)) for row in self._db.execute(sql, (root_id, root_id))]

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM tasks").fetchone()[0])
