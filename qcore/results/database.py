"""Results in a SQL database through SQLAlchemy, db+postgresql://…, in the tables of Celery's backend.

In:  results.  Out: rows of `celery_taskmeta` and `celery_tasksetmeta`; nothing expires until cleanup().
Values are in binary columns, as result_serializer writes them. A pickled value, as old releases of Celery
wrote it, is read only with that serializer.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from qcore.base.times import when
from qcore.brokers.contract.records import StoredResult
from qcore.errors import BrokerDown, ConfigError, Malformed
from qcore.results.polled import KeyedChords
from qcore.wire.result import SUCCESS, ResultMeta, meta_of
from qcore.wire.result_form import ResultForm, is_refused

try:
    import sqlalchemy as sa
    from sqlalchemy.pool import NullPool
except ImportError:
    raise ConfigError("results in a SQL database need SQLAlchemy; install qctl[sqlalchemy]") from None

log = logging.getLogger("qcore.results")

ENGINE = {"pool_pre_ping": True, "pool_recycle": 3600}  # Celery's
EXTENDED = ("name", "args", "kwargs", "worker", "retries", "queue")
IN_JSON = frozenset(("result", "children", "args", "kwargs"))
TRIES = 3


class DatabaseResults(KeyedChords):
    """One database. Options: database_engine_options, database_table_names, database_table_schemas,
    database_short_lived_sessions, database_engine_callback, result_extended,
    database_create_tables_at_setup."""

    expires_by_cleanup = True

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(url, options)
        self._extended = bool(self.options.get("result_extended"))
        schemas = self.options.get("database_table_schemas") or {}
        names = self.options.get("database_table_names") or {}
        self._tables = sa.MetaData()
        self._tasks = _tasks(self._tables, names.get("task"), schemas.get("task"), self._extended)
        self._groups = _groups(self._tables, names.get("group"), schemas.get("group"))
        self._chords = sa.Table(
            "qcore_chords",
            self._tables,
            sa.Column("key", sa.String(200), primary_key=True),
            sa.Column("value", _BYTES),
            sa.Column("date_done", sa.DateTime, index=True),
            schema=schemas.get("group"),
        )
        self._lock, self._ready, self._pid = threading.Lock(), False, os.getpid()
        self._engine = self._open()
        if self.options.get("database_create_tables_at_setup"):
            try:
                self._create()
            except sa.exc.SQLAlchemyError as exc:  # the first use tries again, and reports it
                log.warning("the tables of results cannot be made now: %s", getattr(exc, "orig", None) or exc)

    def _open(self) -> sa.Engine:
        given = {**ENGINE, **(self.options.get("database_engine_options") or {})}
        given = {**given, **(self.options.get("engine_options") or {})}
        if self.options.get("database_short_lived_sessions"):
            given = {k: v for k, v in given.items() if not k.startswith("pool") and k != "max_overflow"}
            given["poolclass"] = NullPool
        try:
            engine = sa.create_engine(self.url.removeprefix("db+"), **given)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, TypeError) as exc:
            raise ConfigError(f"the database of the result backend cannot be opened: {exc}") from exc
        callback = self.options.get("database_engine_callback")
        if isinstance(callback, str):
            module, _, name = callback.replace(":", ".").rpartition(".")
            callback = getattr(importlib.import_module(module), name)
        if callback is not None:
            cast(Callable[[sa.Engine], Any], callback)(engine)
        return engine

    @contextlib.contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        """A transaction; the tables exist. Raises BrokerDown."""
        if self._pid != os.getpid():  # a child: the connections are the parent's
            self._engine.dispose(close=False)
            self._pid, self._lock = os.getpid(), threading.Lock()
        try:
            self._create()
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.IntegrityError:
            raise
        except sa.exc.SQLAlchemyError as exc:
            raise BrokerDown(self.url, str(getattr(exc, "orig", None) or exc)) from exc

    def _create(self) -> None:
        with self._lock:
            if self._ready:
                return
            for left in reversed(range(len(self._tables.tables) + TRIES)):
                try:
                    self._tables.create_all(self._engine)
                    break
                except sa.exc.DBAPIError as exc:
                    # Another process creates them now; each time it was faster, one more of them is there.
                    if not left or exc.statement is None:
                        raise
            self._add_columns()
            self._ready = True

    def _add_columns(self) -> None:
        """Add the columns that the table of an older release, or one without result_extended, lacks."""
        table, found = self._tasks, sa.inspect(self._engine)
        there = {column["name"] for column in found.get_columns(table.name, schema=table.schema)}
        name = self._engine.dialect.identifier_preparer.format_table(table)
        for column in table.columns:
            if column.name not in there and column.nullable:
                kind = column.type.compile(self._engine.dialect)
                with self._engine.begin() as connection:
                    connection.execute(sa.text(f"ALTER TABLE {name} ADD COLUMN {column.name} {kind}"))

    # --- results

    def store(self, results: Sequence[StoredResult]) -> None:
        """As in Celery, nothing replaces a success."""
        for left in reversed(range(TRIES)):
            try:
                if results:
                    with self._begin() as connection:
                        for result in results:
                            self._put(connection, result)
                return
            except sa.exc.IntegrityError as exc:  # another process has written the same id
                if not left:
                    raise BrokerDown(self.url, str(exc.orig)) from exc

    def _put(self, connection: sa.Connection, result: StoredResult) -> None:
        row, task = self._row(result), self._tasks.c.task_id == result.task_id
        changed = sa.update(self._tasks).where(task, self._tasks.c.status != SUCCESS).values(row)
        if connection.execute(changed).rowcount:
            return
        if connection.execute(sa.select(self._tasks.c.status).where(task)).first() is None:
            connection.execute(sa.insert(self._tasks).values(task_id=result.task_id, **row))

    def _row(self, result: StoredResult) -> dict[str, Any]:
        meta = self.form.own(result.meta)
        done = meta.get("date_done")
        row = {
            "status": meta["status"],
            "result": self.form.dumps(meta.get("result")),
            "traceback": meta.get("traceback"),
            "children": self.form.dumps(meta["children"]) if meta.get("children") else None,
            "date_done": datetime.fromtimestamp(when(done, 0), UTC).replace(tzinfo=None) if done else None,
        }
        if self._extended:
            row.update((name, meta.get(name)) for name in EXTENDED)
            for name in ("args", "kwargs"):
                row[name] = self.form.dumps(row[name])
        return row

    def get(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        if not task_ids:
            return []
        found: dict[str, ResultMeta] = {}
        with self._begin() as connection:
            for ids in _slices(list(task_ids)):
                rows = connection.execute(sa.select(self._tasks).where(self._tasks.c.task_id.in_(ids)))
                for row in rows.mappings():
                    found[row["task_id"]] = _meta(dict(row), self.form)
        return [found.get(task_id) for task_id in task_ids]

    def forget(self, task_ids: Sequence[str]) -> int:
        return self._delete(self._tasks, self._tasks.c.task_id, task_ids)

    def _delete(self, table: sa.Table, column: Any, keys: Sequence[str]) -> int:
        deleted = 0
        if keys:
            with self._begin() as connection:
                for some in _slices(list(keys)):
                    deleted += connection.execute(sa.delete(table).where(column.in_(some))).rowcount
        return deleted

    def cleanup(self, older_than_s: float) -> int:
        until = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=older_than_s)
        deleted = 0
        with self._begin() as connection:
            for table in (self._tasks, self._groups, self._chords):
                deleted += connection.execute(sa.delete(table).where(table.c.date_done < until)).rowcount
        return deleted

    # --- groups

    def save_group(self, group_id: str, results: Any, ttl_s: float | None) -> None:
        self.delete_group(group_id)
        row = {"taskset_id": group_id, "result": self.form.dumps(results), "date_done": _now()}
        with self._begin() as connection:
            connection.execute(sa.insert(self._groups).values(row))

    def restore_group(self, group_id: str) -> Any:
        chosen = sa.select(self._groups.c.result).where(self._groups.c.taskset_id == group_id)
        with self._begin() as connection:
            found = connection.execute(chosen).scalar()
        return None if found is None else self.form.loads(bytes(found))

    def delete_group(self, group_id: str) -> None:
        self._delete(self._groups, self._groups.c.taskset_id, [group_id])

    # --- chords

    def read_keys(self, keys: Sequence[str]) -> list[bytes | None]:
        found: dict[str, bytes] = {}
        with self._begin() as connection:
            for some in _slices(list(keys)):
                chosen = sa.select(self._chords.c.key, self._chords.c.value)
                for row in connection.execute(chosen.where(self._chords.c.key.in_(some))):
                    found[row[0]] = bytes(row[1])
        return [found.get(key) for key in keys]

    def write_key(self, key: str, value: bytes, ttl_s: float | None) -> None:
        if not self.add_key(key, value, ttl_s):
            changed = sa.update(self._chords).where(self._chords.c.key == key)
            with self._begin() as connection:
                connection.execute(changed.values(value=value, date_done=_now()))

    def add_key(self, key: str, value: bytes, ttl_s: float | None) -> bool:
        try:
            with self._begin() as connection:
                connection.execute(sa.insert(self._chords).values(key=key, value=value, date_done=_now()))
        except sa.exc.IntegrityError:
            return False
        return True

    def delete_keys(self, keys: Sequence[str]) -> int:
        return self._delete(self._chords, self._chords.c.key, keys)

    def close(self) -> None:
        self._engine.dispose()


_BYTES = sa.LargeBinary
_NUMBER = sa.Integer().with_variant(sa.BigInteger, "mssql")


def _tasks(tables: sa.MetaData, name: str | None, schema: str | None, extended: bool) -> sa.Table:
    more = {"args": _BYTES, "kwargs": _BYTES, "stamps": _BYTES, "retries": sa.Integer}
    columns = [sa.Column(c, more.get(c) or sa.String(155)) for c in (*EXTENDED, "stamps") if extended]
    return sa.Table(
        name or "celery_taskmeta",
        tables,
        sa.Column("id", _NUMBER, sa.Sequence("task_id_sequence", schema=schema), primary_key=True),
        sa.Column("task_id", sa.String(155), unique=True),
        sa.Column("status", sa.String(50)),
        sa.Column("result", _BYTES),
        sa.Column("date_done", sa.DateTime, index=True),
        sa.Column("traceback", sa.Text),
        sa.Column("children", _BYTES),
        *columns,
        schema=schema,
        sqlite_autoincrement=True,
    )


def _groups(tables: sa.MetaData, name: str | None, schema: str | None) -> sa.Table:
    return sa.Table(
        name or "celery_tasksetmeta",
        tables,
        sa.Column("id", _NUMBER, sa.Sequence("taskset_id_sequence", schema=schema), primary_key=True),
        sa.Column("taskset_id", sa.String(155), unique=True),
        sa.Column("result", _BYTES),
        sa.Column("date_done", sa.DateTime, index=True),
        schema=schema,
        sqlite_autoincrement=True,
    )


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _slices(keys: list[str], size: int = 500) -> Iterator[list[str]]:
    """Databases limit the parameters of a statement."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def _meta(row: dict[str, Any], form: ResultForm) -> ResultMeta:
    """The meta of a row. A value of another serializer is a failure of its reader, with the reason."""
    for name in IN_JSON & row.keys():
        raw = row[name]
        try:
            row[name] = None if raw is None else form.loads(bytes(raw))
        except Malformed as exc:
            if name == "result":
                reason = exc.reason if is_refused(exc) else "bad_result"
                what = f"the stored value is not what result_serializer ({form.serializer}) writes: {exc}"
                raise Malformed(reason, exc.detail if is_refused(exc) else what, row["task_id"]) from exc
            row[name] = None
    done = row.get("date_done")
    row["date_done"] = done.replace(tzinfo=UTC).isoformat() if done is not None else None
    return meta_of(row, row["task_id"])
