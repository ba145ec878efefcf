"""The result store of a URL: built-in ones by name, and installed ones."""

from __future__ import annotations

from qcore.base.plugins import Registry
from qcore.results.base import ResultStore

results: Registry[type[ResultStore]] = Registry(
    "result backend",
    "qcore.result_stores",
    {
        "broker": "qcore.results.broker:BrokerResults",
        "cache+memcached": "qcore.results.cache:Memcached",
        "cache+memory": "qcore.results.cache:MemoryCache",
        "db": "qcore.results.database:DatabaseResults",
        "disabled": "qcore.results.disabled:NoResults",
        "file": "qcore.results.files:FileResults",
        "memory": "qcore.results.broker:BrokerResults",
        "redis": "qcore.results.broker:BrokerResults",
        "rpc": "qcore.results.rpc:RpcStore",
        "sqlite": "qcore.results.broker:BrokerResults",
    },
    aliases={
        "cache+memcache": "cache+memcached",
        "cache+pylibmc": "cache+memcached",
        "cache+pymemcache": "cache+memcached",
        "redis+socket": "redis",
        "rediss": "redis",
        "sentinel": "redis",
        "unix": "redis",
    },
)
