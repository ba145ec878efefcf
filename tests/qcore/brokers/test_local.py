"""The broker suite on the brokers that need no server, and on our own Redis."""

from __future__ import annotations

import pytest

from qcore import App
from tests.contracts.broker_contract import BrokerContract, broker, opened, queue
from tests.support.processes import Processes

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


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_a_worker_imports_no_role_that_it_does_not_use(
    kind: str, request: pytest.FixtureRequest, processes: Processes
) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    driver = f"qcore.brokers.{kind}."
    options = ("-c", "1", "-P", "threads")
    processes.start_qcore_worker(url, *options, app="tests.projects.odd", backend=url, fresh=True)
    client = App("client", broker=url, backend=url, set_as_current=False)

    found = set(client.send_task("odd.imported", (driver,)).get(timeout=60))

    roles = ("administration", "chords", "diagnosis", "failed_tasks", "schedules", "task_logs")
    assert driver + "consumer" in found
    assert not found & {driver + role for role in roles}
    client.close()
