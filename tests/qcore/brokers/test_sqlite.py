"""What only the SQLite broker promises: one private file, the dead seen at once, many processes."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from qcore.brokers.base import Broker
from qcore.brokers.contract.administration import Pause
from qcore.brokers.registry import open_broker
from qcore.brokers.sqlite.database import File, WakeupSocket, path_of
from qcore.brokers.sqlite.schema import SCHEMA_VERSION
from qcore.errors import BrokerBusy, BrokerDown, ConfigError
from qcore.wire.failure import FailedTask
from tests.contracts.broker_contract import broker, opened, queue
from tests.contracts.consuming import Open, end, nothing_for, put, take, text_of, texts, wait_woken
from tests.support.waiting import wait_for

__all__ = ["broker", "opened", "queue"]


@pytest.fixture
def broker_url(sqlite_url: str) -> str:
    return sqlite_url


HOLD = """
import sys, time
from qcore.brokers.contract.administration import Pause
from qcore.brokers.registry import open_broker
consumer = open_broker(sys.argv[1]).consumer([sys.argv[2]])
print(len(consumer.claim(2)), flush=True)
time.sleep(60)
"""


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    before = os.umask(0)
    try:
        put(open_broker(f"sqlite:///{folder}/q.sqlite3"), "q", "a")
    finally:
        os.umask(before)

    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()}
    assert set(modes.values()) == {0o600} and "q.sqlite3" in modes
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_urls_name_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    open_broker("sqlite:///here.db").check()
    open_broker(f"sqlite:///{tmp_path}/there%20x.db").check()
    open_broker("sqlite://").check()

    assert {p.name for p in tmp_path.glob("*.db")} == {"here.db", "there x.db"}
    if sys.platform == "linux":
        assert (tmp_path / "state" / "qctl" / "qcore.sqlite3").exists()
    for bad in ("sqlite://here.db", "sqlite:///:memory:"):
        with pytest.raises(ConfigError):
            open_broker(bad)


def test_a_killed_process_is_seen_without_waiting_for_its_lease(broker: Broker, queue: str) -> None:
    put(broker, queue, "a", "b", "c")
    consumer = broker.consumer([queue])
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, broker.url, queue], stdout=subprocess.PIPE, text=True
    )
    assert held.stdout is not None and held.stdout.readline() == "2\n"
    assert consumer.reap() == 0

    held.send_signal(signal.SIGKILL)  # and nobody waits for it: a zombie is dead too

    assert wait_for(consumer.reap, timeout_s=15) == 2
    assert [(text_of(d.raw), d.deliveries) for d in take(consumer, 3)] == [("a", 2), ("b", 2), ("c", 1)]
    held.wait()
    held.stdout.close()


def test_other_processes_wake_us(broker: Broker, queue: str) -> None:
    script = "import sys; from qcore.brokers.contract.records import Message\n"
    script += "from qcore.brokers.registry import open_broker\n"
    script += "open_broker(sys.argv[1]).publish([Message(b'x', queue=sys.argv[2])])"
    consumer = broker.consumer([queue])
    nothing_for(consumer, 0.05)

    other = subprocess.Popen([sys.executable, "-c", script, broker.url, queue])
    woken = wait_for(lambda: wait_woken(consumer, 1.0))

    assert woken and [d.raw for d in consumer.claim(1)] == [b"x"]
    other.wait()


def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 20)

    with pytest.raises(BrokerDown, match="not a database"):
        open_broker(f"sqlite:///{path}").check()


def test_a_held_lock_is_reported_as_busy(
    broker: Broker, sqlite_url: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcore.brokers.sqlite.database.BUSY_S", 0.1)
    broker.check()
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(BrokerBusy):
        put(broker, queue, "a")

    other.execute("ROLLBACK")
    other.close()
    put(broker, queue, "a")


def test_bells_of_dead_processes_are_removed(broker: Broker, queue: str, opened: Open) -> None:
    gone = broker.consumer([queue])
    gone._wakeup._socket.close()  # type: ignore[attr-defined]

    put(opened(), queue, "a")

    assert opened()._file.rows("SELECT 1 FROM bells") == []  # type: ignore[attr-defined]


def test_claiming_does_not_slow_down_with_the_backlog(broker: Broker, queue: str) -> None:
    consumer = broker.consumer([queue])
    plan = "EXPLAIN QUERY PLAN SELECT id FROM messages WHERE queue=? AND owner IS NULL AND due_at"
    rows = broker._file.rows(plan + " IS NULL ORDER BY priority, position LIMIT 5", queue)  # type: ignore[attr-defined]

    assert "USING" in str(rows) and "INDEX ready" in str(rows) and "TEMP B-TREE" not in str(rows)
    consumer.close()


def test_a_forked_child_has_connections_of_its_own(broker: Broker, queue: str) -> None:
    put(broker, queue, "parent")
    consumer = broker.consumer([queue])

    child = os.fork()
    if not child:
        code = 1
        try:
            put(broker, queue, "child")
            consumer.close()
            code = 0
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    got = take(consumer, 2)
    assert texts(got) == ["parent", "child"]
    assert end(consumer, *got) == []


def test_a_file_of_the_format_before_gets_what_it_lacks(sqlite_url: str) -> None:
    older = open_broker(sqlite_url)
    put(older, "q", "a")
    older.close()
    db = sqlite3.connect(path_of(sqlite_url))
    db.executescript(
        "DROP TABLE failures; DELETE FROM counters WHERE name!='position'; DROP TABLE paused;"
        "DROP TABLE schedule_entries; DROP TABLE schedule_history; DROP TABLE schedule_outbox;"
        "DROP TABLE schedule_members; DROP TABLE schedule_counter;"
        "ALTER TABLE messages DROP COLUMN ready_at;"
        "INSERT INTO messages VALUES (9,'p',0,9,NULL,NULL,NULL,0,x'7b');"
        "CREATE TABLE paused (queue TEXT PRIMARY KEY) WITHOUT ROWID; INSERT INTO paused VALUES ('p');"
        "PRAGMA user_version=3;"
    )
    db.close()

    broker = open_broker(sqlite_url)
    broker.failed_tasks.store([FailedTask("a", "proj.add", "q", failed_at=1.0)])

    assert [f.task_id for f in broker.failed_tasks.page().entries] == ["a"]
    assert broker.failed_tasks.counts().kept == 1
    assert broker.administration.pauses() == [Pause("p")]
    assert (broker.administration.depth("p").ready, broker.administration.depth("p").oldest_at) == (1, None)
    assert [text_of(raw) for raw in broker.administration.peek("q")] == ["a"]
    assert broker.schedules.clock()[1] == 0
    assert broker.schedules.declare("app", {"a": b"1"}) == ["a"]
    assert [entry.name for entry in broker.schedules.entries()] == ["a"]


def test_a_file_of_a_newer_format_is_refused_in_a_sentence(sqlite_url: str) -> None:
    open_broker(sqlite_url).check()
    db = sqlite3.connect(path_of(sqlite_url))
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    db.close()

    with pytest.raises(ConfigError, match=rf"written by a newer qcore \(format {SCHEMA_VERSION + 1}\)"):
        open_broker(sqlite_url).check()


def test_a_notification_is_sent_although_another_thread_closes_the_sender(sqlite_url: str) -> None:
    file = File(sqlite_url)
    bell = WakeupSocket(file)
    file.ring_paths([bell.path])
    closed = file._sender
    assert closed is not None

    closed.close()
    heard = file.ring_paths([bell.path])

    assert heard == 1
    assert [bell._socket.recv(16), bell._socket.recv(16)] == [b"!", b"!"]
    bell.close()
    file.close()


def test_a_connection_that_another_thread_closes_at_this_moment_is_no_error(sqlite_url: str) -> None:
    file = File(sqlite_url)
    closed = file.db()
    closed.close()

    file.look()
    file.close()

    assert file.rows("SELECT 1") == [(1,)]
    file.close()
