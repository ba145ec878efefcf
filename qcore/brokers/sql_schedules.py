"""Schedule entries in a SQL database through SQLAlchemy, for brokers that keep none.

In:  db+sqlite:///…, db+postgresql://… (any URL of SQLAlchemy).  Out: a ScheduleStore in tables named
`qcore_schedule_…`, created at the first use. Messages wait in its outbox, since the tasks go to a broker.
The clock is that of the server for PostgreSQL, MySQL and MariaDB, and of the host for all others.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from qcore.base.crashpoints import crashpoint
from qcore.brokers.contract.records import Member
from qcore.brokers.contract.schedules import HISTORY_SIZE, Firing, OutboxItem, ScheduleStore, StoredEntry
from qcore.brokers.shared.schedule_rows import Run, ScheduleRows
from qcore.errors import BrokerDown, BrokerError, ConfigError
from qcore.wire.schedule import EntryState, HistoryRecord

try:
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql
except ImportError:
    raise ConfigError("schedules in a SQL database need SQLAlchemy; install qctl[sqlalchemy]") from None

PREFIX = "qcore_"
ENGINE = {"pool_pre_ping": True, "pool_recycle": 3600}
TRIES = 3
_ROWS = ScheduleRows(PREFIX)
_CLOCKS = dict.fromkeys(("mysql", "mariadb"), "unix_timestamp(now(6))")
_CLOCKS["postgresql"] = "extract(epoch from clock_timestamp())"

# MySQL compares text without regard to case, and its BLOB ends at 64 KiB.
_MYSQL = ("mysql", "mariadb")
_TEXT = sa.String(255).with_variant(mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), *_MYSQL)
_BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), *_MYSQL)


class SqlScheduleStore(ScheduleStore):
    """The schedule entries of one database. Option: engine_options, for create_engine()."""

    uses_outbox = True

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        super().__init__("database")
        self.url = url
        given = {**ENGINE, **((options or {}).get("engine_options") or {})}
        try:
            self._engine = sa.create_engine(url.removeprefix("db+"), **given)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, TypeError) as exc:
            raise ConfigError(f"the database of schedule entries cannot be opened: {exc}") from exc
        place = self._engine.url.database
        if self._engine.dialect.name == "sqlite" and place in (None, "", ":memory:"):
            raise ConfigError(f"'{url}' is a database in memory, which schedulers cannot share; name a file")
        self._lock, self._ready, self._pid = threading.Lock(), False, os.getpid()

    # --- transactions

    @contextlib.contextmanager
    def _begin(self) -> Iterator[Run]:
        """A transaction; the tables exist. Raises BrokerDown, BrokerError."""
        if self._pid != os.getpid():  # a child: the connections are the parent's
            self._engine.dispose(close=False)
            self._pid, self._lock = os.getpid(), threading.Lock()
        try:
            self._create()
            with self._engine.begin() as connection:
                yield lambda sql, values: connection.execute(_statement(sql), values)
        except (sa.exc.IntegrityError, sa.exc.DataError, sa.exc.ProgrammingError) as exc:
            raise BrokerError(f"{self._engine.url!r}: {exc.orig or exc}") from exc
        except sa.exc.SQLAlchemyError as exc:
            raise BrokerDown(self.url, str(getattr(exc, "orig", None) or exc)) from exc

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[Run, float]]:
        """A transaction that nobody else writes in, and the time."""
        with self._begin() as run:
            _ROWS.lock(run)
            yield run, self._now(run)

    def _now(self, run: Run) -> float:
        clock = _CLOCKS.get(self._engine.dialect.name)
        return time.time() if clock is None else float(run(f"SELECT {clock}", {}).fetchall()[0][0])

    def _create(self) -> None:
        with self._lock:
            if self._ready:
                return
            tables, counter = _tables()
            for left in reversed(range(len(tables.tables) + TRIES)):
                try:
                    tables.create_all(self._engine)
                    with self._engine.begin() as connection:
                        if connection.execute(sa.select(counter.c.id)).first() is None:
                            connection.execute(sa.insert(counter).values(id=1, revision=0))
                    break
                except sa.exc.DBAPIError as exc:
                    # Another process creates them now; each time it was faster, one more of them is there.
                    if not left or exc.statement is None:
                        raise
            self._ready = True

    def close(self) -> None:
        self._engine.dispose()

    # --- entries

    def clock(self) -> tuple[float, int]:
        with self._begin() as run:
            return self._now(run), _ROWS.revision(run)

    def entries(self, since: int = 0) -> list[StoredEntry]:
        with self._begin() as run:
            return _ROWS.entries(run, since)

    def named(self, names: Sequence[str]) -> list[StoredEntry | None]:
        with self._begin() as run:
            return _ROWS.named(run, names)

    def history(self, name: str, limit: int = HISTORY_SIZE) -> list[HistoryRecord]:
        with self._begin() as run:
            return _ROWS.history(run, name, limit)

    def declare(self, source: str, entries: Mapping[str, bytes]) -> list[str]:
        with self._writing() as (run, now):
            return _ROWS.declare(run, source, entries, now, self.tombstone_s)

    def edit(
        self,
        name: str,
        edited: bytes | None,
        by: str = "",
        revision: int | None = None,
        cursor_us: int | None = None,
    ) -> bool:
        with self._writing() as (run, now):
            return _ROWS.edit(run, name, edited, by, revision, cursor_us, now, self.tombstone_s)

    def fire(self, firings: Sequence[Firing]) -> list[EntryState | None]:
        crashpoint("before_fire")
        with self._writing() as (run, now):
            answers, messages = _ROWS.fire(run, firings, now)
            _ROWS.put(run, messages, now)
            crashpoint("fire_uncommitted")
        crashpoint("fired")
        return answers

    # --- the outbox

    def outbox(self, limit: int = 100) -> list[OutboxItem]:
        with self._begin() as run:
            return _ROWS.outbox(run, limit)

    def sent(self, ids: Sequence[str]) -> None:
        if ids:
            with self._writing() as (run, _):
                _ROWS.sent(run, ids)

    # --- schedulers

    def announce(self, node: str, facts: dict[str, Any], ttl_s: float) -> None:
        with self._writing() as (run, now):
            _ROWS.announce(run, node, facts, now, ttl_s)

    def retire(self, node: str) -> None:
        with self._writing() as (run, now):
            _ROWS.retire(run, node, now)

    def schedulers(self) -> list[Member]:
        with self._begin() as run:
            return _ROWS.members(run, self._now(run))


@lru_cache(maxsize=100)
def _statement(sql: str) -> Any:
    return sa.text(sql)


def _tables() -> tuple[sa.MetaData, sa.Table]:
    """The tables, and the one of the counter, as ScheduleRows uses them."""
    tables = sa.MetaData()

    def table(name: str, *columns: Any, **options: Any) -> sa.Table:
        return sa.Table(f"{PREFIX}schedule_{name}", tables, *columns, **options)

    def text(name: str) -> sa.Column[str]:
        return sa.Column(name, _TEXT, nullable=False, server_default="")

    def number(name: str) -> sa.Column[int]:
        return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")

    table(
        "entries",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False, index=True),
        *(sa.Column("declared", _BYTES), text("source")),
        *(sa.Column("edited", _BYTES), text("edited_by")),
        *map(number, ("cursor_us", "runs", "missed", "overlapped")),
        *(text("last_task_id"), number("last_instant_us"), number("last_sent_us"), text("last_by")),
        number("decisions"),
        sa.Column("deleted_at", sa.Double),
    )
    table(
        "history",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        text("task_id"),
        sa.Column("record", _BYTES, nullable=False),
    )
    table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("put_at", sa.Double, nullable=False),
        sa.Column("message", _BYTES, nullable=False),
        sqlite_autoincrement=True,
    )
    table(
        "members",
        sa.Column("node", _TEXT, primary_key=True),
        sa.Column("seen_at", sa.Double),
        sa.Column("ttl_s", sa.Double),
        sa.Column("facts", _BYTES),
    )
    counter = table(
        "counter",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    return tables, counter
