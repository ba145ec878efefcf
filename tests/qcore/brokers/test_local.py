"""The broker suite on the brokers that need no server, and on our own Redis."""

from __future__ import annotations

import pytest

from tests.contracts.broker_contract import BrokerContract, broker, opened, queue

__all__ = ["broker", "opened", "queue"]


class TestMemory(BrokerContract):
    @pytest.fixture
    def broker_url(self, memory_url: str) -> str:
        return memory_url


class TestSqlite(BrokerContract):
    @pytest.fixture
    def broker_url(self, sqlite_url: str) -> str:
        return sqlite_url


class TestRedis(BrokerContract):
    @pytest.fixture
    def broker_url(self, redis_url: str) -> str:
        return redis_url
