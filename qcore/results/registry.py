"""Which result store a URL means: the built-in ones by name, and installed ones."""

from __future__ import annotations

from qcore.base.plugins import Registry
from qcore.results.base import ResultStore

results: Registry[type[ResultStore]] = Registry(
    "result backend",
    "qcore.result_stores",
    "qcore.results",
    ("broker", "disabled", "memory", "redis", "rpc", "sqlite"),
    aliases={"rediss": "redis", "redis+socket": "redis", "unix": "redis", "sentinel": "redis"},
)
