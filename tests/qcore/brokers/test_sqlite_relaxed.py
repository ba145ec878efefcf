"""`?durability=relaxed`: what a killed process confirmed is there, the disk has it a second later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from qcore.app.app import App
from qcore.brokers.base import Broker
from qcore.brokers.contract.diagnosis import DURABLE, PARTLY, YES
from qcore.brokers.registry import open_broker
from qcore.brokers.sqlite import relaxed
from qcore.errors import ConfigError
from tests.contracts.broker_contract import broker, opened, queue
from tests.contracts.consuming import end, put, take, texts
from tests.support.processes import Processes
from tests.support.waiting import wait_for

__all__ = ["broker", "opened", "queue"]

PUBLISH = """
import os, signal, sys
from qcore.brokers.contract.records import Message
from qcore.brokers.registry import open_broker
broker = open_broker(sys.argv[1])
for number in range(50):
    broker.publish([Message(b"%d" % number, queue=sys.argv[2])])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def broker_url(sqlite_url: str) -> str:
    return f"{sqlite_url}?durability=relaxed"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that Python code has synced."""
    found: list[str] = []
    before = os.fsync

    def noting(number: int) -> None:
        found.append(os.path.basename(os.readlink(f"/proc/self/fd/{number}")))
        before(number)

    monkeypatch.setattr(os, "fsync", noting)
    return found


def test_what_a_killed_process_published_is_there(broker: Broker, queue: str) -> None:
    command = [sys.executable, "-c", PUBLISH, broker.url, queue]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL

    assert broker.administration.peek(queue, 100) == [b"%d" % i for i in range(50)]


@pytest.mark.skipif(sys.platform != "linux", reason="the test reads /proc")
def test_commits_are_synced_together_a_moment_later(
    broker: Broker, queue: str, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaxed, "SYNC_S", 0.2)
    for number in range(20):
        put(broker, queue, str(number))
    consumer = broker.consumer([queue])
    got = take(consumer, 20)
    assert end(consumer, *got) == [] and texts(got) == [str(i) for i in range(20)]

    wait_for(lambda: not broker._file._delayed_sync._due.is_set())  # type: ignore[attr-defined]
    wait_for(lambda: synced)
    assert set(synced) == {"qcore.sqlite3-wal"}

    put(broker, queue, "last")
    before = len(synced)
    broker.close()
    wait_for(lambda: len(synced) > before)


@pytest.mark.skipif(sys.platform != "linux", reason="the test reads /proc")
def test_a_process_that_ends_syncs_what_it_published(sqlite_url: str) -> None:
    script = PUBLISH.split("os.kill")[0] + (
        "from qcore.brokers.sqlite import relaxed\n"
        "sync = os.fsync\n"
        "os.fsync = lambda number: (print('synced'), sync(number))\n"
        "relaxed.SYNC_S = 1000\n"
    )
    command = [sys.executable, "-c", script, f"{sqlite_url}?durability=relaxed", "q"]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "synced\n")


def test_a_failed_sync_is_logged(
    broker: Broker, queue: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(number: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    put(broker, queue, "a")

    broker.close()

    assert "qcore.sqlite3-wal was not synced to disk: [Errno 5] Input/output error" in caplog.text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("durability=lax", "durability='lax' in the broker URL; it is full or relaxed"),
        ("durability", "durability='' in the broker URL"),
        ("durabilty=relaxed", "no option 'durabilty'.*did you mean 'durability'"),
        ("timeout=3", "no option 'timeout'"),
    ],
)
def test_a_url_with_another_query_is_refused(sqlite_url: str, query: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_broker(f"{sqlite_url}?{query}")


def test_it_is_told_by_doctor_report_and_the_worker(
    sqlite_url: str, broker_url: str, processes: Processes
) -> None:
    def durable(url: str) -> Any:
        (found,) = [g for g in open_broker(url).diagnosis.guarantees() if g.name == DURABLE]
        return found

    assert (durable(sqlite_url).holds, durable(broker_url).holds) == (YES, PARTLY)
    assert (durable(f"{sqlite_url}?durability=full").holds, durable(broker_url).what) == (YES, relaxed.WORDS)
    assert "durability=relaxed, " in durable(broker_url).setting
    assert relaxed.WORDS in App("x", broker=broker_url, set_as_current=False).bugreport()
    worker = processes.start_qcore_worker(broker_url, "-P", "solo")
    assert worker.output().count(f"  caution      {relaxed.WORDS}\n") == 1
    worker.end()
