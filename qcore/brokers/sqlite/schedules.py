"""Schedule entries in the SQLite file: each step is one transaction.

In:  entries and firings.  Out: entries with their states, messages in their queues or in the outbox.
The clock is that of the host, which all processes that use the file share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from qcore.base.crashpoints import crashpoint
from qcore.brokers.contract.records import Member
from qcore.brokers.contract.schedules import HISTORY_SIZE, Firing, OutboxItem, ScheduleStore, StoredEntry
from qcore.brokers.shared.schedule_rows import Run, ScheduleRows
from qcore.brokers.sqlite.consumer import put, route
from qcore.brokers.sqlite.database import Connection, File
from qcore.wire.schedule import EntryState, HistoryRecord

Answer = TypeVar("Answer")
_ROWS = ScheduleRows()


class SqliteSchedules(ScheduleStore):
    """The schedule entries of one file."""

    def __init__(self, file: File, uses_outbox: bool) -> None:
        super().__init__("sqlite")
        self._file, self.uses_outbox = file, uses_outbox

    def _read(self, sql: str, values: dict[str, Any]) -> Any:
        return _Rows(self._file.rows(sql, named=values))

    def _write(self, work: Callable[[Run], Answer], durable: bool = True) -> Answer:
        answer: Answer = self._file.in_transaction(lambda db: work(_run_on(db)), durable)
        return answer

    def clock(self) -> tuple[float, int]:
        return time.time(), _ROWS.revision(self._read)

    def entries(self, since: int = 0) -> list[StoredEntry]:
        return _ROWS.entries(self._read, since)

    def named(self, names: Sequence[str]) -> list[StoredEntry | None]:
        return _ROWS.named(self._read, names)

    def history(self, name: str, limit: int = HISTORY_SIZE) -> list[HistoryRecord]:
        return _ROWS.history(self._read, name, limit)

    def declare(self, source: str, entries: Mapping[str, bytes]) -> list[str]:
        return self._write(lambda run: _ROWS.declare(run, source, entries, time.time(), self.tombstone_s))

    def edit(
        self,
        name: str,
        edited: bytes | None,
        by: str = "",
        revision: int | None = None,
        cursor_us: int | None = None,
    ) -> bool:
        values = (name, edited, by, revision, cursor_us)
        return self._write(lambda run: _ROWS.edit(run, *values, time.time(), self.tombstone_s))

    def fire(self, firings: Sequence[Firing]) -> list[EntryState | None]:
        queues = {} if self.uses_outbox else self._queues(firings)

        def write(db: Connection) -> list[EntryState | None]:
            run, now = _run_on(db), time.time()
            answers, messages = _ROWS.fire(run, firings, now)
            if self.uses_outbox:
                _ROWS.put(run, messages, now)
            elif messages:
                routed = [(message, queues[id(message)]) for message in messages]
                names = {(queue,) for _, queue in routed}
                db.executemany("INSERT OR IGNORE INTO queues VALUES (?)", names)
                put(db, routed)
            crashpoint("fire_uncommitted")
            return answers

        crashpoint("before_fire")
        answers: list[EntryState | None] = self._file.in_transaction(write, durable=True)
        crashpoint("fired")
        self._file.ring({f"q:{queue}" for queue in queues.values()})
        return answers

    def _queues(self, firings: Sequence[Firing]) -> dict[int, str]:
        """The queue of each message, by its identity; raises Unroutable."""
        return {id(message): route(self._file, message) for one in firings for message in one.messages}

    # --- the outbox

    def outbox(self, limit: int = 100) -> list[OutboxItem]:
        return _ROWS.outbox(self._read, limit)

    def sent(self, ids: Sequence[str]) -> None:
        if ids:
            self._write(lambda run: _ROWS.sent(run, ids))

    # --- schedulers

    def announce(self, node: str, facts: dict[str, Any], ttl_s: float) -> None:
        self._write(lambda run: _ROWS.announce(run, node, facts, time.time(), ttl_s), durable=False)

    def retire(self, node: str) -> None:
        self._write(lambda run: _ROWS.retire(run, node, time.time()), durable=False)

    def schedulers(self) -> list[Member]:
        return _ROWS.members(self._read, time.time())


class _Rows(list[Any]):
    """Rows that were read outside a transaction, as a cursor has them."""

    def fetchall(self) -> list[Any]:
        return self


def _run_on(db: Connection) -> Run:
    def run(sql: str, values: Any) -> Any:
        return db.executemany(sql, values) if isinstance(values, list) else db.execute(sql, values)

    return run
