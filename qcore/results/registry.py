"""The result store of a URL: built-in ones by name, and installed ones."""

from __future__ import annotations

from qcore.base.plugins import Registry, entry_points_of
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
        "redis+cluster": "redis",
        "redis+socket": "redis",
        "rediss": "redis",
        "rediss+cluster": "redis",
        "sentinel": "redis",
        "unix": "redis",
    },
)

#: names of Celery's backends that stores here stand for
_OURS = ("cache", "database", "db")


def celery_backend(name: str | None) -> str | None:
    """The place, `module:Class`, of a backend class of another package that `result_backend` names: one of
    Celery's (s3), an entry point of the group celery.result_backends (django-db), `module:Class` or
    `module.Class`, each also as the scheme of a URL. None for the stores of qcore."""
    known = str(name or "").partition("://")[0].partition("+")[0]
    if not known or known in _OURS or known in results.aliases or known in results:
        return None
    from qcore.results.celery_stores import STORES  # what most processes need no file of

    if known in STORES:
        return STORES[known].place
    point = entry_points_of("celery.result_backends").get(known)
    place = point.value if point is not None else known
    if ":" not in place and "." in place:
        place = ":".join(place.rsplit(".", 1))
    module, colon, attribute = place.partition(":")
    return place if colon and module and attribute else None
