"""Operations on queues and single messages in the SQLite file, each as one transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from qcore.brokers.contract.administration import AUDIT_SIZE, Administration, Depth, Holder, Pause, Waiting
from qcore.brokers.contract.records import Message, Quarantined
from qcore.brokers.shared.message_ids import is_one_of, priority_of
from qcore.brokers.sqlite.consumer import next_position, put
from qcore.brokers.sqlite.database import Connection, File

_AUDIT = "CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY AUTOINCREMENT, entry BLOB NOT NULL)"
_IS_READY = "queue=? AND owner IS NULL AND due_at IS NULL"
_IS_DELAYED = "queue=? AND owner IS NULL AND due_at IS NOT NULL"
_WAITING = "queue=? AND owner IS NULL"
#: ready messages in claim order, then delayed ones by their times
_ORDER = "ORDER BY due_at IS NOT NULL, CASE WHEN due_at IS NULL THEN priority END, due_at, position"
#: the message that waiting() returned, and not a later one with the same number
_THIS = "queue=? AND owner IS NULL AND id=? AND raw=?"
AT_ONCE = 500  # messages read per query


class SqliteAdministration(Administration):
    """The queues of one file."""

    def __init__(self, file: File) -> None:
        super().__init__("sqlite")
        self._file = file

    def depth(self, queue: str) -> Depth:
        return self.depths([queue])[0]

    def depths(self, queues: Sequence[str]) -> list[Depth]:
        return _depths(self._file, queues)

    def peek(self, queue: str, limit: int = 20) -> list[bytes]:
        sql = f"SELECT raw FROM messages WHERE {_IS_READY} ORDER BY priority, position LIMIT ?"
        return [raw for (raw,) in self._file.rows(sql, queue, limit)]

    def delayed(self, queue: str, limit: int = 100) -> list[tuple[float, bytes]]:
        sql = f"SELECT due_at, raw FROM messages WHERE {_IS_DELAYED} ORDER BY due_at LIMIT ?"
        return [(due_at, raw) for due_at, raw in self._file.rows(sql, queue, limit)]

    def holder(self, task_id: str) -> Holder | None:
        sql = (
            "SELECT queue, raw, node, lease_until FROM messages LEFT JOIN owners ON owners.id = owner "
            "WHERE owner IS NOT NULL AND instr(raw, CAST(? AS BLOB))"
        )
        for queue, raw, node, until in self._file.rows(sql, task_id):
            if is_one_of(raw, {task_id}):
                ends = None if until is None else time.time() + until - self._file.steady_s()
                return Holder(queue, raw, node or "", ends)
        return None

    def purge(self, queue: str) -> int:
        def delete(db: Connection) -> int:
            ready = db.execute(f"DELETE FROM messages WHERE {_IS_READY}", (queue,)).rowcount
            return ready + db.execute(f"DELETE FROM messages WHERE {_IS_DELAYED}", (queue,)).rowcount

        return int(self._file.in_transaction(delete, durable=True))

    def queues(self) -> list[str]:
        return [name for (name,) in self._file.rows("SELECT name FROM queues ORDER BY name")]

    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        sql = "SELECT id, queue, reason, at, raw FROM quarantine ORDER BY id DESC LIMIT ?"
        return [Quarantined(str(number), *rest) for number, *rest in self._file.rows(sql, limit)]

    def pause(
        self,
        queue: str,
        reason: str = "",
        by: str = "",
        for_s: float | None = None,
        told: Sequence[str] = (),
    ) -> None:
        now = time.time()
        row = (queue, reason, by, now, None if for_s is None else now + for_s)
        sql = "INSERT OR REPLACE INTO paused (queue, reason, by_whom, at, until) VALUES (?,?,?,?,?)"
        self._file.in_transaction(lambda db: db.execute(sql, row), durable=True)

    def resume(self, queue: str) -> None:
        sql = "DELETE FROM paused WHERE queue=?"
        self._file.in_transaction(lambda db: db.execute(sql, (queue,)), durable=True)
        self._file.ring([f"q:{queue}"])

    def pauses(self) -> list[Pause]:
        sql = "SELECT queue, reason, by_whom, at, until FROM paused WHERE until IS NULL OR until>?"
        return [Pause(*row) for row in self._file.rows(f"{sql} ORDER BY queue", time.time())]

    def move(
        self, source: str, target: str, limit: int | None = None, ids: Sequence[str] | None = None
    ) -> int:
        if source == target:
            return 0

        def change(db: Connection) -> int:
            found = _waiting(db, source, limit, ids)
            if found:
                first = next_position(db, len(found))
                rows = [(target, first + i, number) for i, number in enumerate(found)]
                db.execute("INSERT OR IGNORE INTO queues VALUES (?)", (target,))
                db.executemany("UPDATE messages SET queue=?, position=? WHERE id=?", rows)
            return len(found)

        count = int(self._file.in_transaction(change, durable=True))
        self._file.ring([f"q:{target}"])
        return count

    def waiting(self, queue: str) -> Iterator[Waiting]:
        rows = self._file.rows(f"SELECT id FROM messages WHERE {_WAITING} {_ORDER}", queue)
        sql = (
            "SELECT id, raw, priority, due_at, crashes FROM messages"
            f" WHERE {_WAITING} AND id IN (SELECT value FROM json_each(?))"
        )
        for start in range(0, len(rows), AT_ONCE):
            some = [number for (number,) in rows[start : start + AT_ONCE]]
            found = {row[0]: row for row in self._file.rows(sql, queue, json.dumps(some))}
            for number in some:
                if number in found:
                    _, raw, priority, due_at, crashes = found[number]
                    yield Waiting(queue, raw, priority, due_at, crashes, number)

    def drop_these(self, found: Sequence[Waiting]) -> list[bool]:
        def delete(db: Connection) -> list[bool]:
            sql = f"DELETE FROM messages WHERE {_THIS}"
            return [db.execute(sql, (w.queue, w.handle, w.raw)).rowcount == 1 for w in found]

        done: list[bool] = self._file.in_transaction(delete, durable=True)
        return done

    def move_these(self, found: Sequence[Waiting], target: str) -> list[bool]:
        def change(db: Connection) -> list[bool]:
            db.execute("INSERT OR IGNORE INTO queues VALUES (?)", (target,))
            first, sql = (
                next_position(db, len(found)),
                f"UPDATE messages SET queue=?, position=? WHERE {_THIS}",
            )
            return [
                w.queue != target
                and db.execute(sql, (target, first + i, w.queue, w.handle, w.raw)).rowcount == 1
                for i, w in enumerate(found)
            ]

        done: list[bool] = self._file.in_transaction(change, durable=True)
        self._file.ring([f"q:{target}"])
        return done

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        def delete(db: Connection) -> int:
            found = json.dumps(_waiting(db, queue, None, ids))
            sql = "DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?))"
            return db.execute(sql, (found,)).rowcount

        return int(self._file.in_transaction(delete, durable=True))

    def replay(self, entry_id: str) -> bool:
        def put_back(db: Connection) -> str | None:
            row = _take_aside(db, entry_id)
            if row is None:
                return None
            queue, raw = row
            put(db, [(Message(raw, queue=queue, priority=priority_of(raw)), queue)])
            return str(queue)

        queue = self._file.in_transaction(put_back, durable=True)
        if queue is not None:
            self._file.ring([f"q:{queue}"])
        return queue is not None

    def forget(self, entry_id: str) -> bool:
        return self._file.in_transaction(lambda db: _take_aside(db, entry_id), durable=True) is not None

    def audit(self, entry: bytes) -> None:
        def write(db: Connection) -> None:
            # Created on first use, so that older versions can still use the file.
            db.execute(_AUDIT)
            db.execute("INSERT INTO audit(entry) VALUES (?)", (entry,))
            db.execute("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", (AUDIT_SIZE,))

        self._file.in_transaction(write, durable=False)

    def audited(self, limit: int = 100) -> list[bytes]:
        if not self._file.rows("SELECT 1 FROM sqlite_master WHERE name='audit'"):
            return []
        rows = self._file.rows("SELECT entry FROM audit ORDER BY id DESC LIMIT ?", limit)
        return [entry for (entry,) in rows]


def _waiting(db: Connection, queue: str, limit: int | None, ids: Sequence[str] | None) -> list[int]:
    """Rows of the waiting messages of a queue: ready ones in claim order, then delayed ones by due time."""
    most = -1 if limit is None else limit
    if ids is None:
        rows = db.execute(f"SELECT id FROM messages WHERE {_WAITING} {_ORDER} LIMIT ?", (queue, most))
        return [number for (number,) in rows]
    wanted = set(ids)
    found: list[int] = []
    for number, raw in db.execute(f"SELECT id, raw FROM messages WHERE {_WAITING} {_ORDER}", (queue,)):
        if len(found) != most and is_one_of(raw, wanted):
            found.append(number)
    return found


def _take_aside(db: Connection, entry_id: str) -> Any:
    """Remove one message from the quarantine: (queue, raw), or None."""
    if not entry_id.isdecimal() or len(entry_id) > 18:
        return None
    sql = "DELETE FROM quarantine WHERE id=? RETURNING queue, raw"
    return next(iter(db.execute(sql, (int(entry_id),)).fetchall()), None)


#: the ready messages by queue and priority, with the first of each, which is the oldest of its priority
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


def _depths(file: File, queues: Sequence[str]) -> list[Depth]:
    """The Depth of each queue, in the given order."""
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
