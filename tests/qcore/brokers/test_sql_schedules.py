"""Schedule entries in a SQL database: the suite of all stores on an SQLite file, and what is special."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.schema import CreateTable

from qcore.brokers import sql_schedules
from qcore.brokers.sql_schedules import SqlScheduleStore
from qcore.errors import BrokerDown, ConfigError
from tests.contracts.schedules_contract import Keeping, OpenStore, Outboxes, firing


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"db+sqlite:///{tmp_path}/schedules.db"


class TestSql(Keeping, Outboxes):
    @pytest.fixture
    def open_store(self, database_url: str) -> Iterator[OpenStore]:
        opened: list[SqlScheduleStore] = []

        def open_one() -> SqlScheduleStore:
            opened.append(SqlScheduleStore(database_url))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()

    @pytest.fixture
    def open_outbox(self, open_store: OpenStore) -> OpenStore:
        return open_store


def test_the_tables_have_names_of_their_own(database_url: str) -> None:
    SqlScheduleStore(database_url).declare("app", {"a": b"1"})

    found = sa.inspect(sa.create_engine(database_url.removeprefix("db+"))).get_table_names()

    tables = ("counter", "entries", "history", "members", "outbox")
    assert sorted(found) == [f"qcore_schedule_{name}" for name in tables]


@pytest.mark.parametrize("dialect", [postgresql.dialect(), mysql.dialect()], ids=lambda dialect: dialect.name)
def test_the_tables_are_exact_on_other_databases(dialect: Any) -> None:
    tables, _ = sql_schedules._tables()

    text = "\n".join(str(CreateTable(table).compile(dialect=dialect)) for table in tables.sorted_tables)

    assert "FLOAT" not in text and "DOUBLE" in text  # FLOAT of MySQL would cut the microseconds
    assert "cursor_us BIGINT" in text
    if dialect.name == "mysql":
        assert " BLOB" not in text and "LONGBLOB" in text
        assert "name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" in text


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="in memory"):
        SqlScheduleStore("db+sqlite://")


def test_a_database_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        SqlScheduleStore("db+nosuch://host/x")


def test_a_database_that_cannot_be_reached_is_down(tmp_path: Path) -> None:
    store = SqlScheduleStore(f"db+sqlite:///{tmp_path}/missing/schedules.db")

    with pytest.raises(BrokerDown, match="unable to open"):
        store.clock()


def test_many_that_come_first_create_the_tables_once(database_url: str) -> None:
    start, revisions = threading.Barrier(8), list[int]()

    def come() -> None:
        store = SqlScheduleStore(database_url)
        start.wait(60)
        store.edit(f"e{threading.get_ident()}", b"1")
        revisions.append(store.clock()[1])

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(revisions) == 8 and max(revisions) == 8
    assert sorted(entry.revision for entry in SqlScheduleStore(database_url).entries()) == list(range(1, 9))


def test_a_child_has_connections_of_its_own(database_url: str) -> None:
    store = SqlScheduleStore(database_url)
    store.declare("app", {"a": b"1"})

    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if store.fire([firing("a")]) == [None] else 2
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    (found,) = store.fire([firing("a")])
    assert found is not None and found.cursor_us == 10
