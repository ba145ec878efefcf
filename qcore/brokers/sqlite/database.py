"""The SQLite file: its path, its tables, transactions, and the sockets that wake its readers.

In:  a sqlite:// URL.  Out: connections (one for each thread), transactions that are synced to disk or
not, datagram sockets to which other processes write after their commits.
Next: brokers/sqlite/broker.py, brokers/sqlite/consumer.py, brokers/sqlite/bus.py.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import socket
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from qcore.base.private_files import create, make_folder
from qcore.base.process_facts import boot_id
from qcore.base.times import new_id
from qcore.brokers.shared.fork_hooks import tell_after_fork
from qcore.brokers.sqlite.commits import GroupCommit
from qcore.brokers.sqlite.relaxed import RELAXED, DelayedSync, durability_of
from qcore.brokers.sqlite.schema import NEW_COLUMNS, SCHEMA, SCHEMA_VERSION
from qcore.errors import BrokerBusy, BrokerDown, BrokerError, BrokerFull, ConfigError

Answer = TypeVar("Answer")

BUSY_S = 5.0
#: SQLite's own waiting sleeps for up to 100 ms between two attempts, so that with many writers some never
#: find the lock free; it waits this long only, and the next attempt follows after a random pause
SQLITE_WAITS_MS = 10
#: how often it is looked whether the file that is open is still the one that is there, seconds
LOOK_S = 0.5


log = logging.getLogger("qcore.broker")


def path_of(url: str) -> Path:
    """The file of a URL; `sqlite://` alone means the one in the user's state directory."""
    parts = urlsplit(url)
    if parts.netloc:
        raise ConfigError(
            f"'{url}' names a host; write sqlite:///relative/path, sqlite:////absolute/path or sqlite://"
        )
    name = unquote(parts.path)
    if name in ("", "/"):
        from platformdirs import user_state_dir  # 5 ms, and needed only here

        return Path(user_state_dir("qctl")) / "qcore.sqlite3"
    if name == "/:memory:":
        raise ConfigError("an SQLite database in memory cannot be shared; use memory://")
    return Path(name[1:]).absolute()


class Connection(sqlite3.Connection):
    """A connection whose `busy` lock is held during use: SQLite must not be closed at that time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.busy = threading.RLock()
        self.closed = False


class File:
    """One database file, for all threads of this process."""

    def __init__(self, url: str) -> None:
        self.url, self.path = url, path_of(url)
        self.is_relaxed = durability_of(url) == RELAXED
        self._ready = False
        self._identity: tuple[int, int] | None = None  # of the file that is open
        self._next_look = 0.0
        self.generation = 0  # how often there was another file at that place
        self.bells: weakref.WeakSet[WakeupSocket] = weakref.WeakSet()
        self._steady: tuple[int, float] | None = None  # generation, epoch less monotonic seconds
        self._start()
        tell_after_fork(self)

    def _start(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._sender: socket.socket | None = None
        self._commits = GroupCommit(lambda work: self.in_transaction(work, durable=True))
        self._delayed_sync = DelayedSync(self.path)

    def after_fork(self) -> None:
        # Closing an inherited connection could end the parent's write-ahead log, so it is kept open.
        _inherited.extend(self._all)
        if self._sender is not None:
            self._sender.close()
        self._start()

    # --- connections

    def db(self) -> Connection:
        """This thread's connection; raises BrokerDown."""
        found: Connection | None = getattr(self._local, "db", None)
        if found is None:
            with self.translated():
                found = self._local.db = self._connect()
        return found

    def _held(self) -> Connection:
        """This thread's connection with `busy` held; a new one if another thread has just closed it."""
        while True:
            db = self.db()
            db.busy.acquire()
            if not db.closed:
                return db
            db.busy.release()

    def _connect(self) -> Connection:
        with self._lock:
            if not self._ready:
                self._create()
            db = sqlite3.connect(
                self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, factory=Connection
            )
            self._to_wal(db)
            db.execute(f"PRAGMA synchronous={'NORMAL' if self.is_relaxed else 'FULL'}")
            if not self._ready:
                self._create_tables(db)
                self._identity, self._ready = self._found(), True
            db.execute(f"PRAGMA busy_timeout={SQLITE_WAITS_MS}")
            self._all.add(db)
            return db

    def _found(self) -> tuple[int, int] | None:
        """Which file is there; None: there is none."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def look(self, always: bool = True) -> None:
        """Go on with the file that is there, when it is another one than the one that is open. To be called
        before the file is used; not `always`: a few times a second are enough. Raises BrokerDown."""
        now = time.monotonic()
        if not self._ready or (now < self._next_look and not always):
            return
        db: Connection | None = getattr(self._local, "db", None)
        with suppress(sqlite3.ProgrammingError):  # closed by another thread: in no transaction
            if db is not None and db.in_transaction:
                return
        self._next_look = now + LOOK_S
        with self.translated():
            found = self._found()
        if found == self._identity:
            return
        with self._lock:
            if found == self._identity or not self._ready:
                return  # another thread was quicker
            was, self._identity, self._ready = self._identity, None, False
            self.generation += 1
        if (self.path, was) not in _told:
            _told.add((self.path, was))
            log.error(
                "the SQLite file %s was removed or replaced while it was in use; continuing with %s, which "
                "does not contain the messages of the old one",
                self.path,
                "a new one" if found is None else "the file that is there now",
            )
        self.close()
        for bell in list(self.bells):
            bell.hear_again()

    def _create(self) -> None:
        """Nobody else may read what is in the file, whatever the umask says."""
        make_folder(self.path.parent)
        try:
            # SQLite would create what a link leads to, with the umask's mode.
            os.close(create(os.path.realpath(self.path)))
        except FileExistsError:
            return

    @staticmethod
    def _to_wal(db: Connection) -> None:
        until = time.monotonic() + BUSY_S
        while db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                db.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError:
                # Another process does the same; SQLite itself does not wait for that.
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)

    @staticmethod
    def _create_tables(db: Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise ConfigError(f"the database was written by a newer qcore (format {version})")
        if version < SCHEMA_VERSION:
            db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
            db.execute("BEGIN IMMEDIATE")
            for table, column, kind in NEW_COLUMNS:
                if column not in {row[1] for row in db.execute(f"PRAGMA table_info({table})")}:
                    db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            db.execute("COMMIT")

    def close(self) -> None:
        self._delayed_sync.sync()
        with self._lock:
            closing, self._all = list(self._all), weakref.WeakSet()
            self._local = threading.local()
            if self._sender is not None:
                self._sender.close()
                self._sender = None
        for db in closing:
            with db.busy:
                db.close()
                db.closed = True

    # --- reading and writing

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Translate SQLite's errors into those of qcore/errors.py."""
        try:
            yield
        except sqlite3.Error as exc:
            code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise BrokerBusy(f"{self.path} is held by another process for over {BUSY_S:.0f} s") from exc
            # SQLite reports an exceeded quota or file size limit as an I/O error.
            refused = getattr(exc, "sqlite_errorcode", 0) in (
                sqlite3.SQLITE_IOERR_WRITE,
                sqlite3.SQLITE_IOERR_SHMSIZE,
            )
            if code == sqlite3.SQLITE_FULL or refused:
                raise BrokerFull(f"no space left for {self.path}") from exc
            if isinstance(exc, sqlite3.DataError | sqlite3.InterfaceError | sqlite3.IntegrityError):
                raise BrokerError(f"{self.path}: {exc}") from exc
            raise BrokerDown(self.url, exc) from exc
        except OSError as exc:
            raise BrokerDown(self.url, exc) from exc

    def rows(self, sql: str, *values: Any, named: dict[str, Any] | None = None) -> list[Any]:
        """The rows of one query outside a transaction. named: the values, for a query with `:name`."""
        self.look(always=False)
        with self.translated():
            db = self._held()
            try:
                return patiently(lambda: db.execute(sql, values if named is None else named).fetchall())
            finally:
                db.busy.release()

    def in_transaction(self, work: Callable[[Connection], Any], durable: bool) -> Any:
        """Run `work` with the write lock held. Not durable: this commit is on disk only after a later
        durable one, which is enough for what a power failure may take back (claims, leases, the bus). With
        durability=relaxed a durable one is on disk within about a second."""
        self.look(always=durable)
        with self.translated():
            db = self._held()
            try:
                if not self.is_relaxed:
                    return self._committed(db, work, durable)
                value = self._committed(db, work, durable=True)  # as durable as this connection is
                if durable:
                    self._delayed_sync.committed()
                return value
            finally:
                db.busy.release()

    def in_shared_transaction(self, work: Callable[[Connection], Any]) -> Any:
        """As in_transaction(), durable, perhaps in one transaction with the work of other threads; `work` may
        be called again after a rollback."""
        return self._commits.run(work)

    @staticmethod
    def _committed(db: Connection, work: Callable[[Connection], Any], durable: bool) -> Any:
        if not durable:
            db.execute("PRAGMA synchronous=NORMAL")
        try:
            patiently(lambda: db.execute("BEGIN IMMEDIATE"))
            try:
                value = work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        finally:
            if not durable:
                db.execute("PRAGMA synchronous=FULL")
        return value

    def steady_s(self) -> float:
        """Epoch seconds for leases, which no setting of the clock moves: the first process since the host was
        started writes down how they follow from the monotonic clock. Elsewhere the wall clock's time."""
        if self._steady is None or self._steady[0] != self.generation:
            if not (boot := boot_id()):
                return time.time()
            generation, sql = self.generation, "SELECT n FROM counters WHERE name=?"
            row = (f"clock {boot}", int((time.time() - time.monotonic()) * 1e6))
            if not (found := self.rows(sql, row[0])):
                put = "INSERT OR IGNORE INTO counters VALUES (?, ?)"
                self.in_transaction(lambda db: db.execute(put, row), durable=False)
                found = self.rows(sql, row[0])
            self._steady = generation, found[0][0] / 1e6
        return time.monotonic() + self._steady[1]

    # --- bells

    def ring(self, topics: Iterable[str]) -> int:
        """Notify every Bell of these topics; returns how many were reached. Call it after the commit."""
        found: set[str] = set()
        for topic in topics:
            found.update(path for (path,) in self.rows("SELECT path FROM bells WHERE topic=?", topic))
        return self.ring_paths(found)

    def ring_paths(self, paths: Iterable[str]) -> int:
        """Notify the sockets at these paths; returns how many still exist."""
        heard, dead = 0, []
        for path in paths:
            try:
                self._notify(path)
            except BlockingIOError:
                pass  # notified more often than it has read
            except (ConnectionRefusedError, FileNotFoundError):
                dead.append(path)
                continue
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:  # the same: its buffer is full
                    continue
            heard += 1
        if dead:
            self.in_transaction(lambda db: _forget_bells(db, dead), durable=False)
        return heard

    def _notify(self, path: str) -> None:
        sender = self._sender
        if sender is None or sender.fileno() < 0:
            sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sender.setblocking(False)
            self._sender = sender
        try:
            sender.sendto(b"!", _address(path))
        except OSError as exc:
            if exc.errno != errno.EBADF:
                raise
            self._notify(path)  # another thread has just called close()


def patiently(ask: Callable[[], Answer]) -> Answer:
    """The result of ask() once the file is not locked; raises its error after BUSY_S seconds."""
    began = 0.0
    while True:
        try:
            return ask()
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            now = time.monotonic()
            began = began or now
            if now >= began + BUSY_S:
                raise
            # The longer a thread has waited the more often it tries, so it succeeds before later ones.
            time.sleep(random.uniform(0.001, 0.01) / (1 + now - began))


_inherited: list[Connection] = []
#: the files whose end was said, with where they were
_told: set[tuple[Path, tuple[int, int] | None]] = set()


def _forget_bells(db: Connection, paths: list[str]) -> None:
    db.executemany("DELETE FROM bells WHERE path=?", [(p,) for p in paths])


def _address(path: str) -> str:
    return "\0" + path[1:] if path.startswith("@") else path


class WakeupSocket:
    """A datagram socket that becomes readable when another process has written to one of its topics."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._folder = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        if sys.platform == "linux":
            self.path = "@qcore-" + new_id()
        else:
            import tempfile

            self._folder = tempfile.mkdtemp(prefix="qcore-")
            self.path = self._folder + "/bell"
        self._socket.bind(_address(self.path))
        self._topics: list[str] = []
        self._pattern = ""
        file.bells.add(self)
        tell_after_fork(self)

    def listen_to(self, topics: Iterable[str], pattern: str = "") -> None:
        """From now on these topics ring, and no others."""
        self._topics, self._pattern = list(topics), pattern
        rows = [(topic, self.path, pattern) for topic in self._topics]

        def write(db: Connection) -> None:
            _forget_bells(db, [self.path])
            db.executemany("INSERT OR REPLACE INTO bells VALUES (?, ?, ?)", rows)

        self._file.in_transaction(write, durable=False)

    def hear_again(self) -> None:
        """The same topics, in another file."""
        if self._topics and self._socket.fileno() >= 0:
            self.listen_to(self._topics, self._pattern)

    def fileno(self) -> int:
        return self._socket.fileno()

    def silence(self) -> None:
        try:
            while True:
                self._socket.recv(16)
        except (BlockingIOError, OSError):
            pass

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self.after_fork()
        try:
            self._file.in_transaction(lambda db: _forget_bells(db, [self.path]), durable=False)
        except BrokerError:
            pass  # the next sender removes it
        if self._folder:
            Path(self.path).unlink(missing_ok=True)
            Path(self._folder).rmdir()

    def after_fork(self) -> None:
        self._socket.close()
