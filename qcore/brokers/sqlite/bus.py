"""Subscriptions and inboxes on the SQLite file: a log of messages, and a wake-up socket for each.

In:  exchanges and AMQP patterns.  Out: messages written since the subscription.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque

from qcore.brokers.contract.subscription import Inbox, Subscription
from qcore.brokers.shared.topics import hears
from qcore.brokers.sqlite.database import Connection, File, WakeupSocket
from qcore.errors import BrokerDown

LOOK_AGAIN_S = 1.0
KEEP_S = 60.0


def wait_rung(bell: WakeupSocket, until: float | None) -> bool:
    """Block until a notification arrives or a fallback check is due; False when `until` has passed."""
    left = LOOK_AGAIN_S if until is None else min(LOOK_AGAIN_S, until - time.monotonic())
    if left <= 0:
        return False
    try:
        select.select([bell.fileno()], [], [], left)
    except (OSError, ValueError):
        return True  # closed by another thread, which the caller detects next
    bell.silence()
    return True


def publish_event(file: File, exchange: str, routing_key: str, raw: bytes) -> int:
    """Store a message for all subscribers and wake them; returns how many were reached."""
    ears = [
        path
        for path, pattern in file.rows("SELECT path, pattern FROM bells WHERE topic=?", f"x:{exchange}")
        if hears(pattern, routing_key)
    ]
    if not ears:
        return 0

    def write(db: Connection) -> None:
        now = time.time()
        sql = "INSERT INTO bus (exchange, routing_key, raw, at) VALUES (?,?,?,?)"
        number = db.execute(sql, (exchange, routing_key, raw, now)).lastrowid or 0
        if number % 256 == 0:
            db.execute("DELETE FROM bus WHERE at<?", (now - KEEP_S,))

    file.in_transaction(write, durable=False)
    return file.ring_paths(ears)


class SqliteSubscription(Subscription):
    can_wake = True

    def __init__(self, file: File, exchange: str, pattern: str) -> None:
        self._file, self._exchange, self._pattern = file, exchange, pattern
        self._heard: deque[bytes] = deque()
        self._woken = threading.Event()
        self._wakeup = WakeupSocket(file)
        self._seen, self._generation = 0, file.generation

        def last(db: Connection) -> int:
            return int(
                db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name='bus'").fetchone()[0]
            )

        self._seen = file.in_transaction(last, durable=False)
        self._wakeup.listen_to([f"x:{exchange}"], pattern)

    def get(self, timeout_s: float | None) -> bytes | None:
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._heard:
            if self._wakeup.fileno() < 0:
                raise BrokerDown(self._file.url, "the subscription is closed")
            self._look()
            if not self._heard and (self._woken.is_set() or not wait_rung(self._wakeup, until)):
                self._woken.clear()
                return None
        return self._heard.popleft()

    def wake(self) -> None:
        self._woken.set()
        self._file.ring_paths([self._wakeup.path])

    def _look(self) -> None:
        if self._generation != self._file.generation:  # another file has numbers of its own
            self._seen, self._generation = 0, self._file.generation
        sql = "SELECT id, routing_key, raw FROM bus WHERE exchange=? AND id>? ORDER BY id LIMIT 1000"
        for number, key, raw in self._file.rows(sql, self._exchange, self._seen):
            self._seen = number
            if hears(self._pattern, key):
                self._heard.append(raw)

    def close(self) -> None:
        self._wakeup.close()


def answer(file: File, exchange: str, key: str, raw: bytes) -> None:
    """Send a reply to the owner of that inbox; dropped when the inbox does not exist."""
    topic = f"r:{exchange}:{key}"
    if not file.rows("SELECT 1 FROM bells WHERE topic=?", topic):
        return

    def write(db: Connection) -> None:
        now = time.time()
        db.execute("DELETE FROM replies WHERE at<?", (now - KEEP_S,))
        db.execute("INSERT INTO replies (exchange, key, raw, at) VALUES (?,?,?,?)", (exchange, key, raw, now))

    file.in_transaction(write, durable=False)
    file.ring([topic])


class SqliteInbox(Inbox):
    def __init__(self, file: File, exchange: str, key: str) -> None:
        self.key = key
        self._file, self._exchange = file, exchange
        self._wakeup = WakeupSocket(file)
        self._wakeup.listen_to([f"r:{exchange}:{key}"])

    def get(self, timeout_s: float | None) -> bytes | None:
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._wakeup.fileno() < 0:
                raise BrokerDown(self._file.url, "the inbox is closed")
            found = self._pop()
            if found is not None or not wait_rung(self._wakeup, until):
                return found

    def _pop(self) -> bytes | None:
        where = "WHERE exchange=? AND key=?"
        if not self._file.rows(f"SELECT 1 FROM replies {where} LIMIT 1", self._exchange, self.key):
            return None
        sql = f"DELETE FROM replies WHERE id=(SELECT min(id) FROM replies {where}) RETURNING raw"
        row = self._file.in_transaction(
            lambda db: db.execute(sql, (self._exchange, self.key)).fetchone(), durable=False
        )
        return row[0] if row else None

    def close(self) -> None:
        self._wakeup.close()
        where = "DELETE FROM replies WHERE exchange=? AND key=?"
        self._file.in_transaction(lambda db: db.execute(where, (self._exchange, self.key)), durable=False)
