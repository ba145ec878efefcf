"""Group commit of the SQLite broker: who writes at the same time shares a transaction, and loses nothing."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from qcore.brokers.base import Broker
from qcore.brokers.contract.records import Message
from qcore.brokers.sqlite.commits import GroupCommit
from qcore.brokers.sqlite.database import File, path_of
from qcore.errors import BrokerBusy
from tests.contracts.broker_contract import broker, opened, queue
from tests.contracts.consuming import end, message, put, take, text_of
from tests.support.waiting import wait_for

__all__ = ["broker", "opened", "queue"]


@pytest.fixture
def broker_url(sqlite_url: str) -> str:
    return sqlite_url


class Caller(threading.Thread):
    """A thread that makes one call; `error` is what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.call, self.value, self.error = call, None, None
        self.start()

    def run(self) -> None:
        try:
            self.value = self.call()
        except BaseException as exc:
            self.error: BaseException | None = exc

    def ended(self) -> Caller:
        self.join(60)
        assert not self.is_alive()
        return self


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Another process's transaction."""
    other = sqlite3.connect(path_of(url), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each commit whether it is durable."""
    found: list[bool] = []
    before = File._committed

    def counting(db: Any, work: Any, durable: bool) -> Any:
        value = before(db, work, durable)
        found.append(durable)
        return value

    monkeypatch.setattr(File, "_committed", staticmethod(counting))
    return found


def wait_until_waiting(broker: Broker, count: int) -> None:
    commits = broker._file._commits  # type: ignore[attr-defined]
    wait_for(lambda: commits._leader is not None and len(commits._waiting) == count)


def test_who_publishes_meanwhile_shares_one_commit(
    broker: Broker, queue: str, sqlite_url: str, commits: list[bool]
) -> None:
    put(broker, queue, "before")
    consumer = broker.consumer([queue])
    held = take(consumer, 1)
    commits.clear()

    with locked(sqlite_url):
        first = Caller(lambda: put(broker, queue, "first"))
        wait_until_waiting(broker, 0)
        others = [Caller(lambda i=i: put(broker, queue, f"m{i}")) for i in range(8)]  # type: ignore[misc]
        others.append(Caller(lambda: end(consumer, *held)))
        wait_until_waiting(broker, 9)
        assert all(caller.is_alive() for caller in (first, *others))
    for caller in (first, *others):
        assert caller.ended().error is None

    assert commits == [True, True]
    assert {text_of(d.raw) for d in take(consumer, 9)} == {"first", *(f"m{i}" for i in range(8))}


def test_a_call_returns_when_others_see_its_message(broker: Broker, queue: str, opened: Any) -> None:
    def publish_and_look(thread: int) -> None:
        mine = opened()
        for number in range(20):
            put(broker, queue, f"{thread}.{number}")
            assert f"{thread}.{number}" in {text_of(raw) for raw in mine.administration.peek(queue, 1000)}

    for caller in [Caller(lambda i=i: publish_and_look(i)) for i in range(6)]:  # type: ignore[misc]
        assert caller.ended().error is None
    assert broker.administration.depth(queue).ready == 120


def test_what_is_refused_of_one_is_not_refused_of_others(broker: Broker, queue: str, sqlite_url: str) -> None:
    put(broker, queue, "before")
    with locked(sqlite_url):
        first = Caller(lambda: put(broker, queue, "first"))
        wait_until_waiting(broker, 0)
        good = [Caller(lambda i=i: put(broker, queue, f"m{i}")) for i in range(2)]  # type: ignore[misc]
        bad = Caller(lambda: broker.publish([Message(message("bad"), queue=queue, due_at=2**70)]))
        wait_until_waiting(broker, 3)

    assert isinstance(bad.ended().error, OverflowError)
    assert [caller.ended().error for caller in (first, *good)] == [None] * 3
    assert {text_of(raw) for raw in broker.administration.peek(queue)} == {"before", "first", "m0", "m1"}


def test_a_lock_that_lasts_is_an_error_for_all_who_wait(
    broker: Broker, queue: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(broker, queue, "before")
    monkeypatch.setattr("qcore.brokers.sqlite.database.BUSY_S", 0.5)
    with locked(sqlite_url):
        callers = [Caller(lambda i=i: put(broker, queue, f"m{i}")) for i in range(4)]  # type: ignore[misc]
        assert {type(caller.ended().error) for caller in callers} == {BrokerBusy}

    put(broker, queue, "after")
    assert [text_of(raw) for raw in broker.administration.peek(queue)] == ["before", "after"]


def test_an_interrupted_leader_hands_over() -> None:
    begun, go_on = threading.Event(), threading.Event()
    group = GroupCommit(lambda work: work(None))

    def slow(_: Any) -> str:
        begun.set()
        go_on.wait(60)
        return "slow"

    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    first = Caller(lambda: group.run(slow))
    assert begun.wait(60)
    second = Caller(lambda: group.run(interrupted))
    wait_for(lambda: len(group._waiting) == 1)
    third = Caller(lambda: group.run(lambda _: "third"))
    wait_for(lambda: len(group._waiting) == 2)
    go_on.set()

    assert isinstance(second.ended().error, KeyboardInterrupt)
    assert (first.ended().value, third.ended().value) == ("slow", "third")
    assert group.run(lambda _: "later") == "later"


def test_a_call_within_a_commit_of_the_same_thread_does_not_wait_for_itself() -> None:
    group = GroupCommit(lambda work: work(None))

    assert group.run(lambda _: group.run(lambda _: "inner")) == "inner"
