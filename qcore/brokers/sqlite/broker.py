"""The SQLite broker: one file instead of a server, for every process of one host.

In:  sqlite:// (the user's own file), sqlite:///relative or sqlite:////absolute.  Out: the whole contract.
Publishing and settling are on disk when they return, or with `?durability=relaxed` about a second later.
Waiting processes do not poll: a writer sends them a wake-up notification (brokers/sqlite/database.py); a
check every second is only the fallback.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import msgspec

from qcore.base.crashpoints import crashpoint
from qcore.brokers.base import Broker
from qcore.brokers.contract.administration import Administration
from qcore.brokers.contract.chords import Chords
from qcore.brokers.contract.diagnosis import Diagnosis
from qcore.brokers.contract.failed_tasks import FailedTaskStore, limits_of
from qcore.brokers.contract.records import Features, Member, Message, StoredResult
from qcore.brokers.contract.schedules import ScheduleStore
from qcore.brokers.contract.subscription import Inbox, Subscription
from qcore.brokers.contract.task_logs import TaskLogs
from qcore.brokers.shared.fork_hooks import tell_after_fork
from qcore.brokers.sqlite.bus import SqliteInbox, SqliteSubscription, answer, publish_event, wait_rung
from qcore.brokers.sqlite.consumer import SqliteConsumer, keep_results, put, route
from qcore.brokers.sqlite.database import Connection, File, WakeupSocket
from qcore.brokers.sqlite.relaxed import WORDS
from qcore.wire.result import ResultMeta, decode


class SqliteBroker(Broker):
    """One file."""

    name: ClassVar[str] = "sqlite"
    takes_lists: ClassVar[bool] = False
    features: ClassVar[Features] = Features(
        results=True,
        receivers_known=True,
        members_known=True,
        members_replaced=True,
        revokes=True,
        revoked_lookup=True,
        multi_host=False,
        pauses=True,
        moves=True,
        once=True,
        failures=True,
        audits=True,
        lines=True,
        schedules=True,
    )

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(url, options)
        self._file = File(url)
        self._failure_limits = limits_of(self.options)
        self._start()
        tell_after_fork(self)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._noted: set[str] = set()
        self._generation = self._file.generation  # of the file that they are noted in
        self._idle_bells: list[WakeupSocket] = []  # wait_result() keeps them for the next wait

    def after_fork(self) -> None:
        self._start()

    # --- roles

    @cached_property
    def administration(self) -> Administration:
        from qcore.brokers.sqlite.administration import SqliteAdministration

        return SqliteAdministration(self._file)

    @cached_property
    def chords(self) -> Chords:
        from qcore.brokers.sqlite.chords import SqliteChords

        return SqliteChords(self._file)

    @cached_property
    def diagnosis(self) -> Diagnosis:
        from qcore.brokers.sqlite.diagnosis import SqliteDiagnosis

        return SqliteDiagnosis(self._file)

    @cached_property
    def failed_tasks(self) -> FailedTaskStore:
        from qcore.brokers.sqlite.failed_tasks import SqliteFailedTasks

        return SqliteFailedTasks(self._file, self._failure_limits)

    @cached_property
    def schedules(self) -> ScheduleStore:
        from qcore.brokers.sqlite.schedules import SqliteSchedules

        return SqliteSchedules(self._file, bool(self.options.get("schedule_outbox")))

    @cached_property
    def task_logs(self) -> TaskLogs:
        from qcore.brokers.sqlite.task_logs import SqliteTaskLogs

        return SqliteTaskLogs(self._file)

    # --- tasks

    def publish(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        routed = [(m, m.queue or route(self._file, m)) for m in messages]
        queues = {queue for _, queue in routed}
        self._file.look()
        if self._generation != self._file.generation:
            self._noted, self._generation = set(), self._file.generation
        fresh = [(queue,) for queue in queues - self._noted]

        def write(db: Connection) -> None:
            if fresh:
                db.executemany("INSERT OR IGNORE INTO queues VALUES (?)", fresh)
            put(db, routed)

        crashpoint("before_publish")
        self._file.in_shared_transaction(write)
        self._noted |= queues
        crashpoint("published")
        self._file.ring(f"q:{queue}" for queue in queues)

    def consumer(self, queues: Sequence[str], node: str = "") -> SqliteConsumer:
        return SqliteConsumer(self._file, queues, self.lease_s, node, self._failure_limits)

    def first_time(self, key: str, ttl_s: float) -> bool:
        now, name = time.time(), f"said\0{key}"  # keys of callers come without that

        def write(db: Connection) -> bool:
            db.execute("DELETE FROM once WHERE key=? AND expires_at<=?", (name, now))
            row = (name, "", now + ttl_s)
            return bool(db.execute("INSERT OR IGNORE INTO once VALUES (?,?,?)", row).rowcount)

        return bool(self._file.in_transaction(write, durable=True))

    def publish_once(self, message: Message, key: str, task_id: str, ttl_s: float) -> str:
        queue, now = route(self._file, message), time.time()

        def write(db: Connection) -> str:
            db.execute("DELETE FROM once WHERE key=? AND expires_at<=?", (key, now))
            row = (key, task_id, now + ttl_s)
            if not db.execute("INSERT OR IGNORE INTO once VALUES (?,?,?)", row).rowcount:
                return str(db.execute("SELECT task_id FROM once WHERE key=?", (key,)).fetchone()[0])
            db.execute("INSERT OR IGNORE INTO queues VALUES (?)", (queue,))
            put(db, [(message, queue)])
            return task_id

        crashpoint("before_publish")
        owner = str(self._file.in_shared_transaction(write))
        crashpoint("published")
        self._file.ring([f"q:{queue}"])
        return owner

    # --- results

    def results_of(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        now, found = time.time(), {}
        for start in range(0, len(task_ids), 500):
            some = task_ids[start : start + 500]
            marks = ",".join("?" * len(some))
            sql = f"SELECT task_id, meta, expires_at FROM results WHERE task_id IN ({marks})"
            found.update(
                {i: meta for i, meta, until in self._file.rows(sql, *some) if not until or until > now}
            )
        metas = [found.get(i) for i in task_ids]
        return [None if m is None else decode(m, i, self.form) for m, i in zip(metas, task_ids, strict=True)]

    def store_results(self, results: Sequence[StoredResult]) -> None:
        if not results:
            return
        self._file.in_shared_transaction(lambda db: keep_results(db, results))
        self._file.ring(["results"])

    def wait_result(self, task_id: str, timeout_s: float | None) -> ResultMeta | None:
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            bell = self._idle_bells.pop() if self._idle_bells else None
        if bell is None:
            bell = WakeupSocket(self._file)
            bell.listen_to(["results"])
        try:
            while True:
                (meta,) = self.results_of([task_id])
                if meta is not None and meta.is_ready:
                    return meta
                if not wait_rung(bell, until):
                    return None
        finally:
            with self._lock:
                self._idle_bells.append(bell)

    def forget_results(self, task_ids: Sequence[str]) -> int:
        rows = [(i,) for i in task_ids]

        def delete(db: Connection) -> int:
            return db.executemany("DELETE FROM results WHERE task_id=?", rows).rowcount if rows else 0

        return int(self._file.in_transaction(delete, durable=True))

    # --- bus

    def broadcast(self, exchange: str, routing_key: str, raw: bytes) -> int:
        return publish_event(self._file, exchange, routing_key, raw)

    def subscribe(self, exchange: str, pattern: str = "", node: str = "") -> Subscription:
        return SqliteSubscription(self._file, exchange, pattern)

    def inbox(self, exchange: str, key: str) -> Inbox:
        return SqliteInbox(self._file, exchange, key)

    def reply(self, exchange: str, key: str, raw: bytes) -> None:
        answer(self._file, exchange, key, raw)

    # --- members

    def announce(self, node: str, info: dict[str, Any], ttl_s: float) -> dict[str, Any] | None:
        row = (node, time.time(), ttl_s, msgspec.json.encode(info, enc_hook=str))

        def write(db: Connection) -> Any:
            before = db.execute("SELECT info FROM members WHERE node=?", (node,)).fetchone()
            db.execute("INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?)", row)
            return before

        before = self._file.in_transaction(write, durable=False)
        found: dict[str, Any] | None = msgspec.json.decode(before[0]) if before else None
        return found

    def retire(self, node: str) -> None:
        sql = "DELETE FROM members WHERE node=? OR seen_at+ttl_s<?"
        row = (node, time.time() - 3600)
        self._file.in_transaction(lambda db: db.execute(sql, row), durable=False)

    def members(self) -> list[Member]:
        now = time.time()
        sql = "SELECT node, seen_at, ttl_s, info FROM members WHERE seen_at+ttl_s>? ORDER BY node"
        return [
            Member(node, seen, now < seen + ttl, msgspec.json.decode(info))
            for node, seen, ttl, info in self._file.rows(sql, now - 3600)
        ]

    # --- revoked ids

    def revoke(self, task_ids: Sequence[str], ttl_s: float = 10800.0) -> None:
        now = time.time()
        rows = [(i, now, now + ttl_s) for i in task_ids]

        def write(db: Connection) -> None:
            db.execute("DELETE FROM revoked WHERE expires_at<=?", (now,))
            db.executemany("INSERT OR REPLACE INTO revoked VALUES (?, ?, ?)", rows)

        self._file.in_transaction(write, durable=True)

    def unrevoke(self, task_ids: Sequence[str]) -> int:
        sql = "DELETE FROM revoked WHERE id IN (SELECT value FROM json_each(?))"
        ids = msgspec.json.encode(list(task_ids)).decode()
        return int(self._file.in_transaction(lambda db: db.execute(sql, (ids,)).rowcount, durable=True))

    def revoked(self, limit: int = 50_000) -> list[str]:
        sql = "SELECT id FROM revoked WHERE expires_at>? ORDER BY revoked_at DESC LIMIT ?"
        return [i for (i,) in self._file.rows(sql, time.time(), limit)]

    def revoked_among(self, task_ids: Sequence[str]) -> set[str]:
        sql = "SELECT id FROM revoked WHERE expires_at>? AND id IN (SELECT value FROM json_each(?))"
        return {i for (i,) in self._file.rows(sql, time.time(), msgspec.json.encode(list(task_ids)).decode())}

    @property
    def weakened(self) -> str:
        return WORDS if self._file.is_relaxed else ""

    def check(self) -> None:
        self._file.rows("SELECT 1 FROM counters")

    def close(self) -> None:
        with self._lock:
            bells, self._idle_bells = self._idle_bells, []
        for bell in bells:
            bell.close()
        self._file.close()

    def info(self) -> dict[str, Any]:
        return {**super().info(), "virtual_host": str(self._file.path)}
