"""The result store of a URL: built-in ones by name, and installed ones."""

from __future__ import annotations

from qcore.base.plugins import Registry
from qcore.results.base import ResultStore

results: Registry[type[ResultStore]] = Registry(
    "result backend",
    "qcore.result_stores",
    {
        "broker": "qcore.results.broker:BrokerResults",
        "disabled": "qcore.results.disabled:NoResults",
        "memory": "qcore.results.broker:BrokerResults",
        "redis": "qcore.results.broker:BrokerResults",
        "rpc": "qcore.results.rpc:RpcStore",
        "sqlite": "qcore.results.broker:BrokerResults",
    },
    aliases={"rediss": "redis", "redis+socket": "redis", "unix": "redis", "sentinel": "redis"},
)
