"""Each pool passes the pool suite."""

from __future__ import annotations

from tests.contracts.pool_contract import ManySlots, PoolContract, Processes


class TestSolo(PoolContract):
    kind = "solo"


class TestThreads(PoolContract, ManySlots):
    kind = "threads"


class TestPrefork(PoolContract, ManySlots, Processes):
    kind = "prefork"
