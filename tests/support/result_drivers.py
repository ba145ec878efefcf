"""Client libraries of result stores: each keeps what it is given and records each call.

In:  the modules by name, which stand in for those of the libraries.  Out: CALLS, what a driver was told, in
order, and KEPT, what its server would have. Only the calls that Celery's classes make are here.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

#: (class and method, arguments) of each call, and what the server of the driver keeps
CALLS: list[tuple[str, Any, Any]] = []
KEPT: dict[Any, Any] = {}


def recorded(kind: type[Any]) -> type[Any]:
    """The class, whose calls are written to CALLS, its construction too."""
    for name, function in list(vars(kind).items()):
        if callable(function) and (not name.startswith("_") or name == "__init__"):
            setattr(kind, name, _recording(f"{kind.__name__}.{name}", function))
    return kind


def _recording(name: str, function: Any) -> Any:
    @functools.wraps(function)
    def record(self: Any, *args: Any, **kwargs: Any) -> Any:
        CALLS.append((name, args, dict(kwargs)))
        return function(self, *args, **kwargs)

    return record


class Missing(Exception):
    """The server does not have it."""


class Exists(Exception):
    """The server has it already."""


class Refused(Exception):
    """An answer with a status, as pydocumentdb's HTTPFailure."""

    def __init__(self, status_code: int) -> None:
        super().__init__(status_code)
        self.status_code = status_code


def text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)


# --- MongoDB


@recorded
class MongoClient:
    def __init__(self, **options: Any) -> None: ...

    def __getitem__(self, name: str) -> Any:
        return SimpleNamespace(__getitem__=None) if name is None else _Database(name)


class _Database:
    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, collection: str) -> Any:
        return Collection(self.name, collection)


@recorded
class Collection:
    def __init__(self, *name: str) -> None:
        self.kept = KEPT.setdefault(name, {})

    def create_index(self, key: str, **options: Any) -> None: ...

    def replace_one(self, query: dict[str, Any], document: dict[str, Any], upsert: bool) -> None:
        found = self.kept.get(query["_id"])
        if found and "status" in query and found["status"] == query["status"]["$ne"]:
            raise Exists
        self.kept[query["_id"]] = dict(document)

    def find_one(self, query: dict[str, Any]) -> Any:
        found = self.kept.get(query["_id"])
        return found and dict(found)

    def delete_one(self, query: dict[str, Any]) -> None:
        self.kept.pop(query["_id"], None)

    def delete_many(self, query: dict[str, Any]) -> None: ...


# --- Elasticsearch


@recorded
class Elasticsearch:
    def __init__(self, url: str, **options: Any) -> None: ...

    def get(self, index: str, id: Any) -> dict[str, Any]:
        if text(id) not in KEPT:
            raise Missing
        return {"found": True, "_source": KEPT[text(id)], "_seq_no": 4, "_primary_term": 2}

    def index(self, id: str, index: str, body: Any, params: Any) -> dict[str, Any]:
        if id in KEPT and params["op_type"] == "create":
            raise Exists
        KEPT[id] = dict(body)
        return {"result": "created"}

    def update(self, id: str, index: str, body: Any, params: Any) -> dict[str, Any]:
        KEPT[id].update(body["doc"])
        return {"result": "updated"}

    def delete(self, index: str, id: Any) -> None:
        if KEPT.pop(text(id), None) is None:
            raise Missing


# --- Cassandra


class SimpleStatement:
    consistency_level: Any = None

    def __init__(self, query: str) -> None:
        self.query = query

    def __repr__(self) -> str:
        return f"{' '.join(self.query.split())} at {self.consistency_level}"


@recorded
class Cluster:
    def __init__(self, servers: Any, **options: Any) -> None: ...

    def connect(self, keyspace: str) -> Any:
        return Session()


@recorded
class Session:
    def execute(self, statement: SimpleStatement, values: Any = ()) -> Any:
        word = statement.query.split()[0]
        if word == "CREATE":
            if KEPT.setdefault("table", False):
                raise Exists
            KEPT["table"] = True
        elif word == "INSERT":
            KEPT[values[0]] = values[1:]
        elif word == "DELETE":
            KEPT.pop(values[0], None)
        return SimpleNamespace(one=lambda: KEPT.get(values[0]))


# --- Couchbase


@recorded
class CouchbaseCluster:
    def __init__(self, url: str, authenticator: Any) -> None: ...

    def bucket(self, name: str) -> Any:
        return SimpleNamespace(default_collection=CouchbaseCollection)


@recorded
class CouchbaseCollection:
    def get(self, key: str) -> Any:
        if key not in KEPT:
            raise Missing
        return SimpleNamespace(content=KEPT[key])

    def get_multi(self, keys: list[str], options: Any) -> Any:
        there = {key: SimpleNamespace(content=KEPT[key]) for key in keys if key in KEPT}
        return SimpleNamespace(results=there, exceptions={k: Missing() for k in keys if k not in KEPT})

    def upsert(self, key: str, value: Any, **options: Any) -> None:
        KEPT[key] = value

    def remove(self, key: str) -> None:
        if KEPT.pop(key, None) is None:
            raise Missing


# --- CouchDB


@recorded
class CouchServer:
    def __init__(self, url: str, **options: Any) -> None: ...

    def database(self, name: str) -> Any:
        if ("database", name) not in KEPT:
            raise Missing
        return CouchDatabase()

    def create(self, name: str) -> Any:
        KEPT["database", name] = True
        return CouchDatabase()


@recorded
class CouchDatabase:
    def get(self, key: str) -> Any:
        if key not in KEPT:
            raise Missing
        return dict(KEPT[key])

    def save(self, document: dict[str, Any]) -> None:
        found = KEPT.get(document["_id"])
        if found and document.get("_rev") != found["_rev"]:
            raise Exists
        KEPT[document["_id"]] = {**document, "_rev": (found["_rev"] if found else 0) + 1}

    def delete(self, key: str) -> None:
        if KEPT.pop(key, None) is None:
            raise Missing


# --- Cosmos DB


@recorded
class DocumentClient:
    def __init__(self, endpoint: str, key: Any, **options: Any) -> None: ...

    def CreateDatabase(self, database: Any) -> None:
        self._create("dbs/" + database["id"])

    def CreateCollection(self, link: str, collection: Any) -> None:
        self._create(f"{link}/colls/{collection['id']}")

    def _create(self, link: str) -> None:
        if link in KEPT:
            raise Refused(409)
        KEPT[link] = True

    def ReadDocument(self, link: str, options: Any) -> Any:
        if link not in KEPT:
            raise Refused(404)
        return KEPT[link]

    def UpsertDocument(self, link: str, document: Any, options: Any) -> None:
        KEPT[f"{link}/docs/{document['id']}"] = document

    def DeleteDocument(self, link: str, options: Any) -> None:
        if KEPT.pop(link, None) is None:
            raise Refused(404)


# --- Consul


class Consul:
    def __init__(self, **options: Any) -> None:
        self.kv, self.session = ConsulKeys(), ConsulSession()


@recorded
class ConsulKeys:
    def get(self, key: str) -> Any:
        return 7, {"Value": KEPT[key]} if key in KEPT else None

    def put(self, key: str, value: Any, acquire: str) -> bool:
        KEPT[key] = value
        return True

    def delete(self, key: str) -> bool:
        KEPT.pop(key, None)
        return True


@recorded
class ConsulSession:
    def create(self, **options: Any) -> str:
        return "session"


# --- ArangoDB


@recorded
class ArangoConnection:
    def __init__(self, **options: Any) -> None: ...

    def __getitem__(self, name: str) -> Any:
        return ArangoDatabase()


@recorded
class ArangoDatabase:
    def AQLQuery(self, query: str, bindVars: dict[str, Any], rawResults: bool = False) -> Any:
        word, keys = query.split()[0], bindVars.get("keys") or [bindVars["key"]]
        if word == "UPSERT":
            KEPT[keys[0]] = bindVars["value"]
        elif word == "REMOVE":
            KEPT.pop(keys[0], None)
        return _Answer([KEPT.get(key) for key in keys])


class _Answer(list[Any]):
    def __next__(self) -> Any:
        return self[0]

    def nextBatch(self) -> None:
        raise StopIteration


# --- Google Cloud Storage, with Firestore


class StorageClient:
    def __init__(self, project: str) -> None:
        session = SimpleNamespace(mount=lambda *_: None)
        self._http = SimpleNamespace(mount=session.mount, _auth_request=SimpleNamespace(session=session))

    def bucket(self, name: str) -> Any:
        return SimpleNamespace(blob=lambda path: Blob(f"{name}/{path}"))


@recorded
class Blob:
    def __init__(self, path: str) -> None:
        self.path = path

    def download_as_bytes(self, retry: Any) -> Any:
        if self.path not in KEPT:
            raise Missing
        return KEPT[self.path]

    def upload_from_string(self, value: Any, retry: Any) -> None:
        KEPT[self.path] = value if isinstance(value, bytes) else value.encode()

    def exists(self) -> bool:
        return self.path in KEPT

    def delete(self, retry: Any) -> None:
        del KEPT[self.path]


class FirestoreClient:
    def __init__(self, project: str) -> None:
        self.project = project

    def collection(self, name: str) -> Any:
        return SimpleNamespace(document=lambda key: Document(f"{self.project}/{name}/{key}"))


class Increment(int):
    """One more."""


@recorded
class Document:
    def __init__(self, path: str) -> None:
        self.path = path

    def set(self, fields: dict[str, Any], merge: bool, retry: Any = None) -> Any:
        kept = KEPT.setdefault(self.path, {})
        for name, value in fields.items():
            kept[name] = kept.get(name, 0) + value if isinstance(value, Increment) else value
        count = SimpleNamespace(integer_value=kept.get("chord_count"))
        return SimpleNamespace(transform_results=[count])

    def delete(self) -> None:
        KEPT.pop(self.path, None)


def install(modules: dict[str, Any]) -> None:
    """Put the drivers into the modules, and forget what the last ones were told."""
    CALLS.clear()
    KEPT.clear()
    errors = SimpleNamespace(
        NotFoundError=Missing, ConflictError=Exists, ApiError=Refused, TransportError=Refused
    )
    couch_errors = SimpleNamespace(NotFound=Missing, Conflict=Exists)
    names: dict[str, dict[str, Any]] = {
        "pymongo": {"MongoClient": MongoClient},
        "pymongo.errors": {"DuplicateKeyError": Exists},
        "elasticsearch": {"Elasticsearch": Elasticsearch, "exceptions": errors},
        "cassandra": {"AlreadyExists": Exists},
        "cassandra.cluster": {"Cluster": Cluster},
        "cassandra.query": {"SimpleStatement": SimpleStatement},
        "couchbase.cluster": {"Cluster": CouchbaseCluster},
        "couchbase.exceptions": {"DocumentNotFoundException": Missing},
        "pycouchdb": {"Server": CouchServer, "exceptions": couch_errors},
        "pydocumentdb.document_client": {"DocumentClient": DocumentClient},
        "pydocumentdb.errors": {"HTTPFailure": Refused},
        "consul": {"Consul": Consul},
        "pyArango.connection": {"Connection": ArangoConnection},
        "google.cloud.storage": {"Client": StorageClient, "blob": SimpleNamespace(NotFound=Missing)},
        "google.cloud.firestore": {"Client": FirestoreClient, "Increment": Increment},
    }
    for module, parts in names.items():
        for name, part in parts.items():
            setattr(modules[module], name, part)
