"""The pool of a name: built-in ones, and installed ones."""

from __future__ import annotations

from qcore.base.plugins import Registry
from qcore.pools.base import Pool

pools: Registry[type[Pool]] = Registry(
    "pool",
    "qcore.pools",
    {
        "asyncio": "qcore.pools.asyncio.pool:AsyncioPool",
        "gevent": "qcore.pools.gevent.pool:GeventPool",
        "prefork": "qcore.pools.prefork.pool:PreforkPool",
        "solo": "qcore.pools.solo:SoloPool",
        "threads": "qcore.pools.threads:ThreadPool",
    },
    aliases={"processes": "prefork", "thread": "threads"},
)
