"""The SQLite consumer: claim and settle as one transaction each, leases, and dead owners.

In:  queue names.  Out: deliveries marked with this owner in the table of messages.
An owner is dead when its lease has ended, or at once when it ran on this host and its process has ended.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from qcore.base.crashpoints import crashpoint
from qcore.base.process_facts import started
from qcore.base.times import new_id
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.failed_tasks import FailedTaskLimits
from qcore.brokers.contract.records import Delivery, Message, Settle, Settlement, StoredResult
from qcore.brokers.shared.fairness import PriorityFairness
from qcore.brokers.shared.fork_hooks import tell_after_fork
from qcore.brokers.shared.neighbours import is_gone, this_host
from qcore.brokers.sqlite.database import Connection, File, WakeupSocket
from qcore.brokers.sqlite.failed_task_rows import store_failed_tasks
from qcore.errors import BrokerError, Unroutable

QUARANTINE_SIZE = 10_000
PRUNE_EVERY_S = 60.0
FIRST_PRIORITY, LAST_PRIORITY = 0, 9

_READY = "queue=? AND owner IS NULL AND due_at IS NULL"
_DELAYED = "queue=? AND owner IS NULL AND due_at IS NOT NULL"

#: names of the paused queues; the parameter is the current time
PAUSED = "SELECT queue FROM paused WHERE until IS NULL OR until>?"

_Place = tuple[int, int, int, int]  # priority, order of its queue, position, id


# --- steps that publish and settle share; all of them run inside a transaction


def next_position(db: Connection, count: int) -> int:
    """The first of `count` new positions at the back of every queue."""
    sql = "UPDATE counters SET n=n+? WHERE name='position' RETURNING n"
    return int(db.execute(sql, (count,)).fetchone()[0]) - count + 1


def put(db: Connection, messages: Sequence[tuple[Message, str]]) -> None:
    """Insert messages into their queues."""
    first, now = next_position(db, len(messages)), time.time()
    rows = [
        (queue, min(LAST_PRIORITY, max(FIRST_PRIORITY, m.priority)), first + i, m.due_at, m.raw, now)
        for i, (m, queue) in enumerate(messages)
    ]
    columns = "queue, priority, position, due_at, raw, ready_at"
    db.executemany(f"INSERT INTO messages ({columns}) VALUES (?,?,?,?,?,?)", rows)


def keep_results(db: Connection, results: Sequence[StoredResult]) -> None:
    now = time.time()
    rows = [(r.task_id, r.meta, None if r.ttl_s is None else now + r.ttl_s) for r in results]
    db.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", rows)


def route(file: File, message: Message) -> str:
    """The queue that receives this message; raises Unroutable."""
    if message.queue:
        return message.queue
    exchange, key = message.exchange, message.routing_key
    if key and (not exchange or file.rows("SELECT 1 FROM queues WHERE name=?", key)):
        return key
    raise Unroutable(f"no queue is bound to the exchange '{exchange}' for the key '{key}'")


class SqliteConsumer(Consumer):
    """One owner of deliveries."""

    def __init__(
        self, file: File, queues: Sequence[str], lease_s: float, node: str, limits: FailedTaskLimits
    ) -> None:
        self._file, self._lease_s, self._node, self._limits = file, lease_s, node, limits
        self._owner_lock = threading.Lock()
        self._number = 1
        self._next_due: float | None = None
        self._lost = self._closed = False
        self._prune_at = time.monotonic()
        self._turns = PriorityFairness()
        self._more = False  # the last claim was full, so the next one skips the check for work
        self._owner = self._enrol()
        self._wakeup = WakeupSocket(file)
        tell_after_fork(self)
        self.set_queues(queues)

    def after_fork(self) -> None:
        self._closed = True  # the socket belongs to the parent

    def _enrol(self) -> str:
        owner, pid = new_id(), os.getpid()
        row = (owner, self._node, self._file.steady_s() + self._lease_s, this_host(), pid, started(pid))
        self._file.in_transaction(
            lambda db: db.execute("INSERT INTO owners VALUES (?,?,?,?,?,?)", row), durable=False
        )
        return owner

    def set_queues(self, queues: Sequence[str]) -> None:
        self.queues = tuple(queues)
        names = [(name,) for name in self.queues]
        self._file.in_transaction(
            lambda db: db.executemany("INSERT OR IGNORE INTO queues VALUES (?)", names), durable=False
        )
        self._wakeup.listen_to(f"q:{name}" for name in self.queues)

    # --- claim and settle

    def claim(self, limit: int) -> list[Delivery]:
        if limit <= 0 or not self.queues:
            return []
        if not self._more and not self._something():
            return []
        for _ in range(2):
            owner = self._owner
            rows = self._file.in_transaction(partial(self._take, owner=owner, limit=limit), durable=False)
            if rows is not None:
                self._more = len(rows) == limit
                self._turns.took(len(rows))
                return [
                    Delivery(number, queue, raw, crashes > 0, crashes + 1, (row_id, batch))
                    for number, (row_id, batch, queue, crashes, raw) in rows
                ]
            self._switch(owner)
        raise BrokerError("the lease of this consumer expires before it can be used; lease_s is too short")

    def _something(self) -> bool:
        """Whether the write lock is worth taking: for a message, or because our lease has ended."""
        now, nearest = time.time(), None
        leased = "SELECT 1 FROM owners WHERE id=? AND lease_until>?"
        found = not self._file.rows(leased, self._owner, self._file.steady_s())
        paused = {queue for (queue,) in self._file.rows(PAUSED, now)}
        for queue in self.queues:
            if queue in paused:
                continue
            ((due,),) = self._file.rows(f"SELECT min(due_at) FROM messages WHERE {_DELAYED}", queue)
            if due is not None:
                nearest = due if nearest is None else min(nearest, due)
            found = found or bool(self._file.rows(f"SELECT 1 FROM messages WHERE {_READY} LIMIT 1", queue))
        self._next_due = nearest
        return found or (nearest is not None and nearest <= now)

    def _take(self, db: Connection, owner: str, limit: int) -> list[Any] | None:
        now = time.time()
        leased = "SELECT 1 FROM owners WHERE id=? AND lease_until>?"
        if not db.execute(leased, (owner, self._file.steady_s())).fetchone():
            return None
        paused = {queue for (queue,) in db.execute(PAUSED, (now,))}
        queues = [queue for queue in self.queues if queue not in paused]
        self._next_due = self._ripen(db, now, queues)
        first = self._less_urgent(db, queues, share) if (share := self._turns.due(limit)) else []
        wanted: list[_Place] = []
        for order, queue in enumerate(queues):
            sql = f"SELECT priority, {order}, position, id FROM messages WHERE {_READY}"
            wanted += db.execute(f"{sql} ORDER BY priority, position LIMIT ?", (queue, limit))
        if not wanted:
            return []
        if len(queues) > 1 or first:
            wanted = [*first, *sorted(set(wanted).difference(first))][:limit]
        batch, self._number = self._number, self._number + len(wanted)
        taken = db.execute(
            "UPDATE messages SET owner=?, batch=? WHERE id IN (SELECT value FROM json_each(?))"
            " RETURNING id, batch, queue, crashes, raw",
            (owner, batch, json.dumps([row[3] for row in wanted])),
        ).fetchall()
        crashpoint("claim_uncommitted")
        by_id = {row[0]: row for row in taken}
        return [(batch + i, by_id[row[3]]) for i, row in enumerate(wanted)]

    def _less_urgent(self, db: Connection, queues: Sequence[str], count: int) -> list[_Place]:
        """Messages whose turn it is although others are more urgent."""
        waiting: list[list[_Place]] = []
        for order, queue in enumerate(queues):
            priority = FIRST_PRIORITY - 1
            # One index lookup for each priority with messages, since a full scan could be long.
            after = f"SELECT min(priority) FROM messages WHERE {_READY} AND priority>?"
            while (row := db.execute(after, (queue, priority)).fetchone()) and row[0] is not None:
                (priority,) = row
                sql = f"SELECT priority, {order}, position, id FROM messages WHERE {_READY} AND priority=?"
                of_it = db.execute(f"{sql} ORDER BY position LIMIT ?", (queue, priority, count)).fetchall()
                waiting.append(of_it)
        found: list[_Place] = []
        while len(found) < count and (waiting := sorted(some for some in waiting if some)):
            found.append(waiting[self._turns.next_of(len(waiting))].pop(0))
        return found

    @staticmethod
    def _ripen(db: Connection, now: float, queues: Sequence[str]) -> float | None:
        """Move due delayed messages to the back of their queues; returns when the next one is due."""
        nearest: float | None = None
        for queue in queues:
            sql = (
                f"SELECT id FROM messages WHERE {_DELAYED} AND due_at<=? ORDER BY due_at, position LIMIT 1000"
            )
            due = db.execute(sql, (queue, now)).fetchall()
            if due:
                first = next_position(db, len(due))
                rows = [(first + i, row[0]) for i, row in enumerate(due)]
                sql = "UPDATE messages SET position=?, ready_at=due_at, due_at=NULL WHERE id=?"
                db.executemany(sql, rows)
            ((left,),) = db.execute(f"SELECT min(due_at) FROM messages WHERE {_DELAYED}", (queue,))
            if left is not None:
                nearest = left if nearest is None else min(nearest, left)
        return nearest

    def settle(self, settlements: Sequence[Settlement]) -> list[int]:
        if not settlements:
            return []
        sends = [[(m, route(self._file, m)) for m in s.sends] if s.sends else () for s in settlements]
        owner, topics = self._owner, set[str]()

        def end_all(db: Connection) -> list[int]:
            refused, results, failures = [], [], []
            for s, sent in zip(settlements, sends, strict=True):
                if not self._end(db, owner, s, topics):
                    refused.append(s.delivery.number)
                    continue
                if s.result is not None:
                    results.append(s.result)
                if s.failure is not None:
                    failures.append(s.failure)
                if sent:
                    put(db, sent)
                    topics.update(f"q:{queue}" for _, queue in sent)
            if failures:
                store_failed_tasks(db, failures, self._limits)
            if results:
                keep_results(db, results)
                crashpoint("settle_uncommitted")
                topics.add("results")
            return refused

        crashpoint("before_settle")
        refused: list[int] = self._file.in_shared_transaction(end_all)
        crashpoint("settled")
        if topics:
            self._file.ring(topics)
        return refused

    @staticmethod
    def _end(db: Connection, owner: str, s: Settlement, topics: set[str]) -> bool:
        """Settle one delivery; False when it is not held by this owner."""
        delivery, action = s.delivery, s.action
        key = (*delivery.handle, owner)
        mine = "WHERE id=? AND batch=? AND owner=?"
        if action == Settle.ACK:
            return db.execute(f"DELETE FROM messages {mine}", key).rowcount == 1
        if action == Settle.QUARANTINE:
            if db.execute(f"DELETE FROM messages {mine}", key).rowcount != 1:
                return False
            row = (delivery.queue, s.reason, time.time(), delivery.raw)
            sql = "INSERT INTO quarantine (queue, reason, at, raw) VALUES (?,?,?,?)"
            number = db.execute(sql, row).lastrowid or 0
            db.execute("DELETE FROM quarantine WHERE id<=?", (number - QUARANTINE_SIZE,))
            return True
        due_at = s.due_at if action == Settle.DELAY else None
        topics.add(f"q:{delivery.queue}")
        sql = f"UPDATE messages SET owner=NULL, batch=NULL, due_at=?, crashes=crashes+? {mine}"
        return db.execute(sql, (due_at, action == Settle.RETURN, *key)).rowcount == 1

    # --- lease

    def renew(self) -> bool:
        if self._closed:
            return False
        owner, now = self._owner, self._file.steady_s()
        sql = "UPDATE owners SET lease_until=? WHERE id=? AND lease_until>?"
        values = (now + self._lease_s, owner, now)
        if not self._file.in_transaction(lambda db: db.execute(sql, values).rowcount, durable=False):
            self._switch(owner)
        lost, self._lost = self._lost, False
        return not lost

    def _switch(self, lost: str) -> None:
        """Continue as a new owner; reap() returns the messages of the old one."""
        with self._owner_lock:
            if self._owner != lost:
                return
            self._owner, self._lost = self._enrol(), True
        self.set_queues(self.queues)  # the file may be another one, which knows nothing of them

    def reap(self) -> int:
        if self._closed:
            return 0
        self._prune()
        dead = self._dead()
        orphans = "owner IS NOT NULL AND owner NOT IN (SELECT id FROM owners)"
        if not dead and not self._file.rows(f"SELECT 1 FROM messages WHERE {orphans} LIMIT 1"):
            return 0

        def return_all(db: Connection) -> list[Any]:
            for owner in self._dead():  # again, now that no owner can renew
                db.execute("DELETE FROM owners WHERE id=?", (owner,))
            change = "UPDATE messages SET owner=NULL, batch=NULL, crashes=crashes+1"
            return db.execute(f"{change} WHERE {orphans} RETURNING queue").fetchall()

        queues = self._file.in_transaction(return_all, durable=True)
        self._file.ring({f"q:{queue}" for (queue,) in queues})
        return len(queues)

    def _prune(self) -> None:
        """Delete expired rows. Called by reap(), which runs periodically."""
        if time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_EVERY_S
        now = time.time()
        for table in ("results", "once", "failures"):
            if self._file.rows(f"SELECT 1 FROM {table} WHERE expires_at<=? LIMIT 1", now):
                self._file.in_transaction(partial(_delete_expired, table=table, now=now), durable=False)

    def _dead(self) -> list[str]:
        now, host = self._file.steady_s(), this_host()
        return [
            owner
            for owner, until, place, pid, since in self._file.rows(
                "SELECT id, lease_until, host, pid, started FROM owners"
            )
            if until <= now or (host and place == host and since and is_gone(pid, since))
        ]

    def reconnect(self) -> None:
        self._file.rows("SELECT 1 FROM owners LIMIT 1")

    # --- wake-ups

    def fds(self) -> list[int]:
        # The socket stays registered while busy: a notification costs less than registering again.
        return [] if self._closed else [self._wakeup.fileno()]

    def wake(self, fd: int) -> tuple[()]:
        self._wakeup.silence()
        return ()

    def idle_s(self) -> float:
        due = self._next_due
        return 1.0 if due is None else max(0.0, min(1.0, due - time.time()))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        owner = self._owner

        def leave(db: Connection) -> list[Any]:
            change = "UPDATE messages SET owner=NULL, batch=NULL WHERE owner=? RETURNING queue"
            queues = db.execute(change, (owner,)).fetchall()
            db.execute("DELETE FROM owners WHERE id=?", (owner,))
            return queues

        try:
            queues = self._file.in_transaction(leave, durable=False)
            self._wakeup.close()
            self._file.ring({f"q:{queue}" for (queue,) in queues})
        except BrokerError:
            self._wakeup.close()  # the next reaper finds that the owner has ended


def _delete_expired(db: Connection, table: str, now: float) -> None:
    db.execute(f"DELETE FROM {table} WHERE expires_at<=?", (now,))
