"""Task history in a SQLite file: what task events reported, kept for later searches.

In:  tasks from the event table (events/store/table.py).  Out: records for filters, newest first.
The user has one file per broker. State, name, queue and worker are indexed by time, so a search that names
one of them reads only matching rows. The rest of a filter is applied to the rows that contain the substrings
which every match contains; that costs a fraction of parsing the arguments.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from qcore.base.private_files import make_folder, open_to_append
from qcore.events.store.table import TaskSeen
from qctl import exit_codes
from qctl.configuration.directories import state_dir
from qctl.filters import Filter
from qctl.fleet.event_record import record_of

COLUMNS = (
    "id name state queue worker exc args kwargs result runtime_s wait_s tries at root_id parent_id "
    "sent_at received_at started_at ended_at traceback"
).split()
#: rows are stored in order of arrival, so that rows of the same time lie next to each other
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS tasks (id TEXT PRIMARY KEY, {", ".join(COLUMNS[1:])});
CREATE INDEX IF NOT EXISTS by_state ON tasks (state, at);
CREATE INDEX IF NOT EXISTS by_name ON tasks (name, at);
CREATE INDEX IF NOT EXISTS by_queue ON tasks (queue, at);
CREATE INDEX IF NOT EXISTS by_worker ON tasks (worker, at);
CREATE INDEX IF NOT EXISTS by_time ON tasks (at);
CREATE INDEX IF NOT EXISTS by_root ON tasks (root_id);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gaps (since, until, why);
CREATE TABLE IF NOT EXISTS steps (id, at, what, worker);
CREATE INDEX IF NOT EXISTS steps_of ON steps (id, at);
"""
_ENDED = "('succeeded','failed','revoked')"
#: columns in which the new row may hold less: the recorder started in the middle of the task's life
_MERGED = {
    "at": "max(at, excluded.at)",
    "tries": "max(tries, excluded.tries)",
    "state": f"CASE WHEN state IN {_ENDED} AND excluded.state NOT IN {_ENDED} AND excluded.at<=at "
    "THEN state ELSE excluded.state END",
}
_STORE = (
    f"INSERT INTO tasks VALUES ({','.join('?' * len(COLUMNS))}) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{c}={_MERGED.get(c, f'coalesce(excluded.{c}, {c})')}" for c in COLUMNS if c != "id")
)
#: tasks are deleted in this order when the file holds too many
_LEAVING = ("IN ('succeeded','revoked')", "='failed'", f"NOT IN {_ENDED}")
BUSY_S = 10.0
GAPS_KEPT = 1000
READ = 5000  # rows per read


def path_for(place: str) -> Path:
    """The path of the history file for the broker at `place`."""
    return state_dir() / "history" / f"{hashlib.sha256(place.encode()).hexdigest()[:16]}.db"


class Gap(NamedTuple):
    """A period in which no events arrived: from, to (epoch seconds), and why."""

    since: float
    until: float
    why: str


class Step(NamedTuple):
    """An event of a task in an attempt that was not its last."""

    id: str
    at: float  # epoch seconds
    what: str  # received, started, retried
    worker: str


class HistoryUnusable(exit_codes.CommandError):
    """The file at `path` cannot be read or written; `why` is SQLite's error."""

    def __init__(self, path: Path, why: Exception) -> None:
        words = f"the history {path} cannot be used: {why}"
        super().__init__(exit_codes.FAILED, words, "is the disk full? otherwise delete it; it is only a copy")
        self.path = path


class History:
    """One history file. Raises HistoryUnusable; PermissionError when another user owns the file."""

    def __init__(self, path: Path, write: bool = False) -> None:
        self.path = path
        if write:
            make_folder(path.parent)
            os.close(open_to_append(path))
        mode = "rwc" if write else "ro"
        with self._errors_translated():
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_S
            )
            if write:
                self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; {SCHEMA}")
            self._db.execute("PRAGMA mmap_size=1073741824")

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        """Convert SQLite errors to HistoryUnusable."""
        try:
            yield
        except sqlite3.Error as exc:
            raise HistoryUnusable(self.path, exc) from exc

    def close(self) -> None:
        self._db.close()

    # --- writing

    def keep(self, tasks: Iterable[TaskSeen]) -> int:
        """Store the current state of these tasks; return their number."""
        rows = [self._row(task) for task in tasks]
        with self._errors_translated(), self._step():
            self._db.executemany(_STORE, rows)
        return len(rows)

    @contextmanager
    def _step(self) -> Iterator[None]:
        """One transaction; it locks first, so that two recorders of one broker wait for each other."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def note_gap(self, gap: Gap) -> None:
        """Store a period without events; the last 1000 gaps are kept."""
        with self._errors_translated(), self._step():
            self._db.execute("INSERT INTO gaps VALUES (?,?,?)", gap)
            few = "SELECT rowid FROM gaps ORDER BY rowid DESC LIMIT -1 OFFSET ?"
            self._db.execute(f"DELETE FROM gaps WHERE rowid IN ({few})", (GAPS_KEPT,))

    def note_steps(self, steps: Iterable[Step]) -> None:
        """Store the events of attempts that were not the last."""
        with self._errors_translated(), self._step():
            self._db.executemany("INSERT INTO steps VALUES (?,?,?,?)", steps)

    def note_alive(self, at: float) -> None:
        """Store the time (epoch seconds) until which a recorder received events."""
        with self._errors_translated():
            self._db.execute("INSERT OR REPLACE INTO facts VALUES ('heard_at', ?)", (at,))

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
        """Delete tasks older than `older_than` (epoch seconds), then those beyond `most`: the oldest that
        succeeded or were revoked, then that failed, last that have not ended. Return the number deleted."""
        with self._errors_translated(), self._step():
            gone = self._db.execute("DELETE FROM tasks WHERE at<?", (older_than,)).rowcount
            self._db.execute("DELETE FROM gaps WHERE until<?", (older_than,))
            few = "SELECT max(rowid) FROM steps"
            self._db.execute(f"DELETE FROM steps WHERE at<? OR rowid<=({few})-?", (older_than, most))
            (left,) = self._db.execute("SELECT count(*) FROM tasks").fetchone()
            for which in _LEAVING:
                if left <= most:
                    break
                # One query per state: sorting a million rows by state first would take seconds.
                few = f"SELECT rowid FROM tasks WHERE state {which} ORDER BY at LIMIT ?"
                done = self._db.execute(f"DELETE FROM tasks WHERE rowid IN ({few})", (left - most,)).rowcount
                gone, left = gone + done, left - done
            facts = (("tasks", left), ("highest", self._highest()))
            self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?,?)", facts)
        return gone

    def _highest(self) -> int:
        return int(self._db.execute("SELECT coalesce(max(rowid), 0) FROM tasks").fetchone()[0])

    # --- reading

    def search(self, wanted: Filter, limit: int | None) -> tuple[list[dict[str, Any]], int]:
        """At most `limit` matching records, newest first; and the number of records tested."""
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
        named = {
            "state": hints.states,
            "name": hints.names,
            "queue": hints.queues,
            "worker": hints.workers,
            "root_id": hints.roots,
            "id": hints.ids,
        }
        for column, allowed in named.items():
            if allowed is not None:
                conditions.append(f"{column} IN ({','.join('?' * len(allowed))})")
                values += sorted(allowed)
        if hints.since is not None:
            conditions.append("at>=?")
            values.append(hints.since)
        if hints.until is not None:
            conditions.append("at<=?")
            values.append(hints.until)
        for trace in hints.traces:
            one = f"{trace.key} LIKE ? ESCAPE '\\'" if trace.caseless else f"instr({trace.key}, ?)"
            conditions.append(f"({' OR '.join([one] * len(trace.any_of))})")
            values += [_pattern(text) if trace.caseless else text for text in trace.any_of]
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        with self._errors_translated():
            rows = self._db.execute(f"SELECT {','.join(COLUMNS)} FROM tasks {where} ORDER BY at DESC", values)
            while some := rows.fetchmany(READ):
                for row in some:
                    yield dict(zip(COLUMNS, row, strict=True))

    def get(self, task_id: str) -> dict[str, Any] | None:
        found = self._records("id=?", (task_id,))
        return found[0] if found else None

    def family(self, root_id: str, most: int) -> list[dict[str, Any]]:
        """The first `most` tasks of a workflow, given its root's id, in the order in which they began."""
        return self._records("root_id=? OR id=? ORDER BY received_at, at LIMIT ?", (root_id, root_id, most))

    def steps(self, task_id: str) -> list[Step]:
        """The events of the attempts before the last one, oldest first."""
        with self._errors_translated():
            rows = self._db.execute("SELECT * FROM steps WHERE id=? ORDER BY at, rowid", (task_id,))
            return [Step(*row) for row in rows]

    def _records(self, where: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        with self._errors_translated():
            rows = self._db.execute(f"SELECT {','.join(COLUMNS)} FROM tasks WHERE {where}", values)
            return [dict(zip(COLUMNS, row, strict=True)) for row in rows]

    def gaps(self, since: float | None = None) -> list[Gap]:
        """Periods in which no events arrived, oldest first; only those that end after `since`."""
        with self._errors_translated():
            rows = self._db.execute("SELECT * FROM gaps WHERE until>=? ORDER BY since", (since or 0.0,))
            return [Gap(*row) for row in rows]

    @property
    def recorded_until(self) -> float | None:
        """Epoch seconds at which a recorder last received events; None before the first."""
        return self._facts().get("heard_at")

    def _facts(self) -> dict[str, Any]:
        with self._errors_translated():
            return dict(self._db.execute("SELECT name, value FROM facts").fetchall())

    def __len__(self) -> int:
        facts = self._facts()
        if "tasks" not in facts:
            with self._errors_translated():
                return int(self._db.execute("SELECT count(*) FROM tasks").fetchone()[0])
        # Counting a million rows takes longer than reading one: only forget() deletes rows.
        return int(facts["tasks"]) + self._highest() - int(facts["highest"])


def _pattern(text: str) -> str:
    """A LIKE pattern that matches values containing `text`."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"
