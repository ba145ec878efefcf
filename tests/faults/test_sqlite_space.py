"""SQLite without space, and locked by somebody else: errors are ours, and nothing is lost."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qcore.brokers.base import Broker
from qcore.brokers.contract.records import Message, StoredResult
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerBusy, BrokerFull
from tests.contracts.consuming import end, message, put, take, text_of
from tests.faults import SEED, size
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.timeout(400)]

POINTS = size(6, 50)  # of each of the two ways
LOCKS = size(2, 20)


def pages(path: Path) -> int:
    """How many pages the file has."""
    with sqlite3.connect(path) as db:
        return int(db.execute("PRAGMA page_count").fetchone()[0])


def limit_pages(broker: Broker, most: int) -> None:
    """At most so many pages for the connection of this thread; 0: as many as there can be."""
    broker._file.db().execute(f"PRAGMA max_page_count={most or 1 << 30}")  # type: ignore[attr-defined]


def intact(path: Path) -> bool:
    with sqlite3.connect(path) as db:
        return bool(db.execute("PRAGMA integrity_check").fetchone() == ("ok",))


@pytest.mark.parametrize("point", range(POINTS))
def test_a_file_that_may_not_grow_refuses_and_goes_on_later(point: int, tmp_path: Path) -> None:
    rng = random.Random(SEED * 1000 + point)
    path = tmp_path / "q.sqlite3"
    broker = open_broker(f"sqlite:///{path}")
    put(broker, "q", "held", "waiting")
    consumer = broker.consumer(["q"])
    (held,) = take(consumer, 1)
    limit_pages(broker, pages(path) + rng.randrange(1, 60))
    stored = ["waiting"]

    with pytest.raises(BrokerFull, match="no space left"):
        for i in range(10_000):
            names = [f"m{i}-{j}" for j in range(rng.randrange(1, 5))]
            raws = [message(name) + b" " * rng.randrange(4000) for name in names]
            broker.publish([Message(raw, queue="q") for raw in raws])
            stored += names

    assert end(consumer, held) == []  # a settlement frees; it needs no page
    assert [text_of(raw) for raw in broker.administration.peek("q", 100_000)] == stored
    assert intact(path)
    limit_pages(broker, 0)
    put(broker, "q", "after")
    assert texts_of(broker) == [*stored, "after"]
    consumer.close()
    broker.close()


def texts_of(broker: Broker) -> list[str]:
    return [text_of(raw) for raw in broker.administration.peek("q", 100_000)]


LIMITED = """
import json, random, resource, signal, sys
from qcore.brokers.contract.records import Message, Settlement
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerFull
from tests.contracts.consuming import message
url, limit, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
broker = open_broker(url)
consumer = broker.consumer(["q"])
(held,) = consumer.claim(1)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
stored, said = [], ""
try:
    for i in range(10_000):
        name = f"m{i}"
        broker.publish([Message(message(name) + b" " * rng.randrange(4000), queue="q")])
        stored.append(name)
except Exception as exc:
    said = f"{type(exc).__name__}: {exc}"
settled = ""
try:
    consumer.settle([Settlement(held)])
except Exception as exc:
    settled = f"{type(exc).__name__}: {exc}"
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
broker.publish([Message(message("after"), queue="q")])
if settled:
    consumer.settle([Settlement(held)])
print(json.dumps([stored, said, settled]))
"""


@pytest.mark.parametrize("point", range(POINTS))
def test_a_disk_that_takes_no_more_refuses_and_goes_on_later(point: int, tmp_path: Path) -> None:
    path = tmp_path / "q.sqlite3"
    url = f"sqlite:///{path}"
    broker = open_broker(url)
    put(broker, "q", "held")
    limit = random.Random(SEED * 1000 + point).randrange(200_000, 1_500_000)

    done = subprocess.run(
        [sys.executable, "-c", LIMITED, url, str(limit), str(point)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    stored, said, settled = json.loads(done.stdout)
    print(f"limit {limit}: {len(stored)} stored, settling: {settled or 'done'}")
    assert said.startswith("BrokerFull: no space left"), said
    assert settled == "" or settled.startswith("BrokerFull: no space left"), settled
    assert texts_of(broker) == [*stored, "after"]
    assert intact(path)
    broker.close()


LOCK = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
for _ in range(int(sys.argv[3])):
    db.execute("BEGIN EXCLUSIVE")
    print("locked", flush=True)
    time.sleep(float(sys.argv[2]))
    db.execute("COMMIT")
    print("free", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def locked(path: Path, seconds: float, times: int = 1) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", LOCK, str(path), str(seconds), str(times)]
    locker = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert locker.stdout is not None and locker.stdin is not None
    assert locker.stdout.readline() == "locked\n"
    try:
        yield locker
    finally:
        locker.kill()
        locker.wait()
        locker.stdout.close()
        locker.stdin.close()


WRITERS = 3


@pytest.mark.slow
def test_locks_of_three_seconds_are_waited_for(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/q.sqlite3"
    broker = open_broker(url)
    broker.check()
    # Few writers: after a lock they wait for each other too, and 5 s are all that each of them waits.
    over, errors, counts = threading.Event(), list[Exception](), [0] * WRITERS

    def write(which: int) -> None:
        mine = open_broker(url)
        while not over.is_set():
            try:
                put(mine, "q", f"w{which}-{counts[which]}")
                mine.store_results([StoredResult(f"w{which}", b"{}")])
                counts[which] += 1
            except Exception as exc:
                errors.append(exc)
            over.wait(0.01)
        mine.close()

    threads = [threading.Thread(target=write, args=(i,)) for i in range(WRITERS)]
    for thread in threads:
        thread.start()
    with locked(tmp_path / "q.sqlite3", 3.0, LOCKS) as locker:
        assert locker.stdout is not None and locker.stdin is not None
        for _ in range(LOCKS):
            wait_for(lambda: locker.stdout.readline() == "free\n")
            before = list(counts)
            wait_for(
                lambda before=before: all(now > was for now, was in zip(counts, before, strict=True)), 60
            )
            print(file=locker.stdin, flush=True)
    over.set()
    for thread in threads:
        thread.join()

    print(f"{LOCKS} locks, {sum(counts)} writes, {len(errors)} errors")
    assert errors == []
    assert broker.administration.depth("q").ready == sum(counts)
    broker.close()


def test_a_longer_lock_is_one_sentence(tmp_path: Path) -> None:
    broker = open_broker(f"sqlite:///{tmp_path}/q.sqlite3")
    put(broker, "q", "before")

    with locked(tmp_path / "q.sqlite3", 100.0):
        began = time.monotonic()
        with pytest.raises(BrokerBusy) as caught:
            put(broker, "q", "refused")
        took = time.monotonic() - began

    assert str(caught.value) == f"{tmp_path}/q.sqlite3 is held by another process for over 5 s"
    assert 4.5 < took < 50
    put(broker, "q", "after")
    assert texts_of(broker) == ["before", "after"]
    broker.close()
