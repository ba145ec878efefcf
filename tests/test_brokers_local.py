"""The broker suite on the brokers that need no server, and on our own Redis."""

from __future__ import annotations

import threading
import time

import pytest

from qcore.brokers.base import Message, StoredResult, open_broker
from qcore.errors import BrokerDown
from qcore.wire import result
from tests.redis_server import RedisServer, free_port
from tests.suites.broker_contract import BrokerContract, broker, opened, queue
from tests.suites.consuming import end, message, put, take, text_of, texts, wait_woken
from tests.waiting import wait_for

__all__ = ["broker", "opened", "queue"]


class TestMemory(BrokerContract):
    @pytest.fixture
    def broker_url(self, memory_url: str) -> str:
        return memory_url


class TestRedis(BrokerContract):
    @pytest.fixture
    def broker_url(self, redis_url: str) -> str:
        return redis_url
