"""The pool of a name: built-in ones, installed ones, and classes of the project.

In:  a name (`threads`), the place of a class (`module:Class`), or `custom`, which is the place in the
environment variable CELERY_CUSTOM_WORKER_POOL.  Out: a Pool class. A class derived from
celery.concurrency.base.BasePool is wrapped (celery_pool.py).
"""

from __future__ import annotations

import importlib
import os

from qcore.base.plugins import Registry
from qcore.errors import ConfigError
from qcore.pools.base import Pool

CUSTOM, VARIABLE = "custom", "CELERY_CUSTOM_WORKER_POOL"


class Pools(Registry[type[Pool]]):
    """The pools by name; get() also takes the place of a class."""

    def get(self, name: str) -> type[Pool]:
        """Raises UnknownName, and ConfigError for a class that cannot be loaded or is no pool."""
        place = os.environ.get(VARIABLE, "") if name == CUSTOM else name
        if not place:
            raise ConfigError(f"the pool 'custom' needs the environment variable {VARIABLE}=module:Class")
        place = self.aliases.get(place, place)
        if not is_place(place):
            return super().get(place)
        module, _, attribute = place.partition(":") if ":" in place else place.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as exc:
            raise ConfigError(f"the pool '{place}' cannot be loaded: {exc}; write module:Class") from exc
        if isinstance(found, type) and issubclass(found, Pool):
            return found
        from qcore.pools.celery_pool import BasePool, pool_around

        if isinstance(found, type) and issubclass(found, BasePool):
            return pool_around(found)
        raise ConfigError(
            f"'{place}' is no pool; derive it from qcore.pools.base.Pool or celery.concurrency.base.BasePool"
        )


def is_place(name: str) -> bool:
    """Whether a name is the place of a class: `module:Class` or `module.Class`."""
    return ":" in name or "." in name


pools = Pools(
    "pool",
    "qcore.pools",
    {
        "asyncio": "qcore.pools.asyncio.pool:AsyncioPool",
        "eventlet": "qcore.pools.eventlet.pool:EventletPool",
        "gevent": "qcore.pools.gevent.pool:GeventPool",
        "prefork": "qcore.pools.prefork.pool:PreforkPool",
        "solo": "qcore.pools.solo:SoloPool",
        "threads": "qcore.pools.threads:ThreadPool",
    },
    aliases={
        "processes": "prefork",
        "thread": "threads",
        "celery.concurrency.prefork:TaskPool": "prefork",
        "celery.concurrency.eventlet:TaskPool": "eventlet",
        "celery.concurrency.gevent:TaskPool": "gevent",
        "celery.concurrency.solo:TaskPool": "solo",
        "celery.concurrency.thread:TaskPool": "threads",
    },
)
