"""Which pool a name means: the built-in ones, and installed ones."""

from __future__ import annotations

from qcore.base.plugins import Registry
from qcore.pools.base import Pool

pools: Registry[type[Pool]] = Registry(
    "pool",
    "qcore.pools",
    "qcore.pools",
    ("asyncio", "gevent", "prefork", "solo", "threads"),
    aliases={"processes": "prefork", "thread": "threads"},
)
