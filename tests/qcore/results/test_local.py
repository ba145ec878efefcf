"""The result suite on the stores that need no foreign server; and the store that keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qcore.brokers.registry import open_broker
from qcore.errors import ResultsNotKept
from qcore.results.base import ResultStore
from qcore.results.broker import BrokerResults
from qcore.results.registry import results
from tests.contracts.result_contract import OpenStore, ResultContract, stored
from tests.support.redis_server import RedisServer


def opener(name: str, url: str) -> Iterator[OpenStore]:
    opened: list[ResultStore] = []

    def open_one() -> ResultStore:
        opened.append(results.get(name)(url, {}))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


class TestMemory(ResultContract):
    @pytest.fixture
    def open_store(self, memory_url: str) -> Iterator[OpenStore]:
        yield from opener("memory", memory_url)


class TestSqlite(ResultContract):
    @pytest.fixture
    def open_store(self, sqlite_url: str) -> Iterator[OpenStore]:
        yield from opener("sqlite", sqlite_url)


class TestRedis(ResultContract):
    @pytest.fixture
    def open_store(self, redis_url: str) -> Iterator[OpenStore]:
        yield from opener("redis", redis_url)


class TestTheBrokerItself(ResultContract):
    @pytest.fixture
    def open_store(self, redis_url: str) -> Iterator[OpenStore]:
        brokers = []

        def open_one() -> ResultStore:
            brokers.append(open_broker(redis_url))
            return BrokerResults(redis_url, broker=brokers[-1])

        yield open_one
        for broker in brokers:
            broker.close()


def test_asking_the_store_that_keeps_nothing_says_so() -> None:
    store = results.get("disabled")("amqp://user:secret@host//")
    store.store([stored("x", 1)])

    assert store.keeps is False and store.forget(["x"]) == 0
    with pytest.raises(ResultsNotKept, match="host") as caught:
        store.get(["x"])
    with pytest.raises(ResultsNotKept):
        store.wait("x", 1)
    assert "secret" not in str(caught.value)


def test_redis_results_are_where_celery_looks(redis_url: str, redis_server: RedisServer) -> None:
    store = results.get("redis")(redis_url, {"result_prefix": "app"})

    store.store([stored("x", 1)])

    with redis_server.client() as client:
        assert client.keys() == [b"app_celery-task-meta-x"]
        assert 50 < client.ttl("app_celery-task-meta-x") <= 60
    store.close()
