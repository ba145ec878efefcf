"""Celery's result backends that qcore has no store of its own for: the classes of an installed Celery.

In:  the scheme or name in result_backend.  Out: the class, the client library that it needs, and the extra of
Celery that installs both. After this: registry.py, app/connections.py.
Source: the aliases in celery/app/backends.py and the extras of Celery 5.7.
"""

from __future__ import annotations

from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from qcore.errors import ConfigError


class CeleryStore(NamedTuple):
    """One backend. library: what its module imports, and cannot do without."""

    module: str
    name: str
    library: str
    extra: str

    @property
    def place(self) -> str:
        """`module:Class`."""
        return f"{self.module}:{self.name}"


_TABLE = """
arangodb arangodb ArangoDbBackend pyArango arangodb
azureblockblob azureblockblob AzureBlockBlobBackend azure.storage.blob azureblockblob
cassandra cassandra CassandraBackend cassandra cassandra
consul consul ConsulBackend consul consul
cosmosdbsql cosmosdbsql CosmosDBSQLBackend pydocumentdb cosmosdbsql
couchbase couchbase CouchbaseBackend couchbase couchbase
couchdb couchdb CouchBackend pycouchdb couchdb
dynamodb dynamodb DynamoDBBackend boto3 dynamodb
elasticsearch elasticsearch ElasticsearchBackend elasticsearch elasticsearch
gs gcs GCSBackend google.cloud.storage gcs
mongodb mongodb MongoBackend pymongo mongodb
s3 s3 S3Backend boto3 s3
"""

#: scheme -> its backend
STORES: dict[str, CeleryStore] = {
    scheme: CeleryStore(f"celery.backends.{module}", name, library, extra)
    for scheme, module, name, library, extra in map(str.split, _TABLE.strip().splitlines())
}

#: the modules that are loaded from the installed Celery
MODULES = frozenset(store.module for store in STORES.values())


def store_at(place: str) -> CeleryStore | None:
    """The backend whose class is at `module:Class`; None for all others."""
    return next((store for store in STORES.values() if store.place == place), None)


def require_library(store: CeleryStore) -> None:
    """Raises ConfigError where Celery or the client library is not installed."""
    for wanted in ("celery", store.library):
        try:  # not find_spec() for Celery, whose name may mean qcore in this process
            is_there = (PathFinder.find_spec if wanted == "celery" else find_spec)(wanted) is not None
        except (ModuleNotFoundError, ValueError):  # a package above it is missing; a module without spec
            is_there = False
        if not is_there:
            raise ConfigError(
                f"the result backend {store.name} needs the package '{wanted}', which is not installed: "
                f"pip install 'celery[{store.extra}]'"
            )


def celery_file(module: str) -> str:
    """The file of a module of the installed Celery, whatever `import celery` means in this process. Raises
    ModuleNotFoundError where Celery is not installed or does not have it."""
    found = PathFinder.find_spec("celery")
    for folder in (found.submodule_search_locations if found is not None else None) or ():
        path = Path(folder, *module.split(".")[1:]).with_suffix(".py")
        if path.is_file():
            return str(path)
    raise ModuleNotFoundError(f"Celery is not installed, or has no module '{module}'", name=module)
