"""Stores of Celery's classes: the class is found, made with the URL, and reads its settings.

The client libraries are stand-ins here, which only can be imported; tests/end_to_end/test_celerys_stores.py
uses those of S3, DynamoDB and Azure on servers.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar
from unittest.mock import MagicMock

import celery
import pytest
from celery.app.task import Context

from qcore.app.app import App
from qcore.app.key_values import KeyValueStoreBackend
from qcore.brokers.contract.records import StoredResult
from qcore.celery import installed
from qcore.celery.app import Celery as CeleryApp
from qcore.errors import ConfigError, mask_url
from qcore.results.celery_stores import STORES, celery_file
from qcore.results.registry import celery_backend
from qcore.settings import effects
from qcore.settings.stores import STORES as STORE_SETTINGS
from qcore.settings.stores import UNTESTED
from qcore.wire import result as wire
from qcore.wire.outcome import ChordPart
from tests.support import result_drivers
from tests.support.processes import ROOT

ARANGO = {"host": "h", "port": 1, "database": "d", "collection": "c", "verify": True}
AZURE = "azureblockblob://AccountName=n;AccountKey=c2VjcmV0/x==;EndpointSuffix=e"
CASSANDRA: dict[str, Any] = {
    "cassandra_servers": ["a", "b"],
    "cassandra_keyspace": "k",
    "cassandra_table": "t",
    "cassandra_entry_ttl": 60,
    "cassandra_options": {"protocol_version": 4},
}
COSMOS = {"cosmosdbsql_database_name": "db", "cosmosdbsql_max_retry_attempts": 3}
ELASTIC = {"elasticsearch_timeout": 7, "elasticsearch_max_retries": 2, "elasticsearch_retry_on_timeout": True}
GCS = {"gcs_project": "p"}
MONGO = {"mongodb_backend_settings": {"database": "d", "taskmeta_collection": "mine", "connect": False}}
S3 = {"s3_bucket": "b", "s3_region": "r", "s3_base_path": "x/", "s3_endpoint_url": "http://h"}

#: URL or name, settings, what the object then has
MADE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("arangodb://", {"arangodb_backend_settings": ARANGO}, {**ARANGO, "arangodb_url": "http://h:1"}),
    (AZURE, {"azureblockblob_container_name": "c"}, {"_container_name": "c", "_read_timeout": 120}),
    ("cassandra://", CASSANDRA, {"servers": ["a", "b"], "table": "t", "port": 9042}),
    ("consul://h:8500/path", {}, {"hostname": "h", "port": 8500, "path": "path"}),
    ("cosmosdbsql://:key@h", COSMOS, {"_endpoint": "https://h:443", "_key": "key", "_database_name": "db"}),
    (
        "couchbase://u:p@h/bucket",
        {"couchbase_backend_settings": {"port": 9}},
        {"bucket": "bucket", "port": 9},
    ),
    ("couchdb://u:p@h:1/box", {}, {"host": "h", "port": 1, "container": "box", "password": "p"}),
    ("dynamodb://key:secret@r/t?read=2", {"dynamodb_endpoint_url": "http://h"}, {"read_capacity_units": 2}),
    ("elasticsearch://h:1/index", ELASTIC, {"index": "index", "es_timeout": 7, "es_retry_on_timeout": True}),
    ("elasticsearch+https://h:1/index", {}, {"scheme": "https", "host": "h", "es_max_retries": 3}),
    (
        "gs://bucket/some/path?gcs_ttl=600",
        GCS,
        {"bucket_name": "bucket", "ttl": 600, "_threadpool_maxsize": 10},
    ),
    ("mongodb://h:1/x", MONGO, {"database_name": "d", "taskmeta_collection": "mine"}),
    ("mongodb+srv://h/x", {}, {"url": "mongodb+srv://h/x"}),
    ("s3", S3, {"bucket_name": "b", "aws_region": "r", "base_path": "x/", "endpoint_url": "http://h"}),
    ("celery.backends.s3:S3Backend", S3, {"bucket_name": "b"}),
    ("celery.backends.s3.S3Backend", S3, {"bucket_name": "b"}),
]


class StandIn(ModuleType):
    """A module that has every name."""

    __version__ = "12.31"
    version_tuple = (4, 0)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__, self.__path__ = ModuleSpec(name, None), []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        kind: Any = (
            type(name, (Exception,), {}) if name.endswith(("Error", "Exception")) else MagicMock(name=name)
        )
        setattr(self, name, kind)
        return kind


LIBRARIES = (
    "azure azure.core azure.core.exceptions azure.storage azure.storage.blob boto3 botocore "
    "botocore.exceptions bson bson.binary cassandra cassandra.auth cassandra.cluster cassandra.query "
    "consul couchbase couchbase.auth couchbase.cluster couchbase.exceptions couchbase.options "
    "couchbase_core couchbase_core._libcouchbase elastic_transport elasticsearch google "
    "google.api_core google.api_core.exceptions google.api_core.retry google.cloud "
    "google.cloud.firestore google.cloud.firestore_admin_v1 google.cloud.storage "
    "google.cloud.storage.retry pyArango pyArango.connection pycouchdb pydocumentdb "
    "pydocumentdb.document_client pydocumentdb.documents pydocumentdb.errors "
    "pydocumentdb.retry_options pymongo pymongo.errors requests requests.adapters"
).split()


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Stand-ins for all client libraries, by name."""
    found: dict[str, Any] = {name: StandIn(name) for name in LIBRARIES}
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
        package, _, last = name.rpartition(".")
        if package:
            setattr(found[package], last, module)
    parts = {"nodelist": [("h", 1)], "username": None, "password": None, "database": "x", "options": {}}
    found["pymongo"].uri_parser.parse_uri.return_value = parts
    admin = found["google.cloud.firestore_admin_v1"]
    field = admin.FirestoreAdminClient.return_value.get_field.return_value
    field.ttl_config.state = admin.Field.TtlConfig.State.ACTIVE
    rules = found["google.cloud.storage"].Client.return_value.bucket.return_value
    rules.lifecycle_rules = [{"action": {"type": "Delete"}}]
    for store in STORES.values():  # a module that was imported without its client library
        monkeypatch.delitem(sys.modules, store.module, raising=False)
    before = set(sys.modules)
    installed._beside.cache_clear()
    yield found
    installed._beside.cache_clear()
    for name in sys.modules.keys() - before:
        if name.startswith("celery.backends."):
            del sys.modules[name]


def app_of(url: str, **settings: Any) -> App:
    return App("x", broker="memory://", backend=url, set_as_current=False, config_source=settings)


@pytest.mark.parametrize(("url", "settings", "expected"), MADE, ids=[url[:24] for url, *_ in MADE])
def test_the_class_of_celery_is_made_with_its_settings(
    url: str, settings: dict[str, Any], expected: dict[str, Any], libraries: dict[str, Any]
) -> None:
    before = {name for name in sys.modules if name.startswith("celery")}

    made = app_of(url, **settings).backend

    assert type(made).__module__.startswith("celery.backends.")
    assert {name: getattr(made, name) for name in expected} == expected
    assert {name for name in sys.modules if name.startswith("celery")} == before


#: URL, settings that it needs, and values of further settings that are not their defaults
SETTINGS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("arangodb://", {}, {"arangodb_backend_settings": ARANGO}),
    (
        AZURE,
        {},
        {
            "azureblockblob_retry_initial_backoff_sec": 3,
            "azureblockblob_retry_increment_base": 4,
            "azureblockblob_retry_max_attempts": 5,
        },
    ),
    (
        "cassandra://",
        CASSANDRA,
        {
            "cassandra_servers": ["c"],
            "cassandra_port": 1,
            "cassandra_keyspace": "other",
            "cassandra_table": "other",
            "cassandra_read_consistency": "ONE",
            "cassandra_write_consistency": "ALL",
            "cassandra_entry_ttl": 7,
            "cassandra_options": {"protocol_version": 5},
            "cassandra_bundle_path": "/b",
        },
    ),
    ("cassandra://", CASSANDRA | {"cassandra_auth_kwargs": {"a": 1}}, {"cassandra_auth_provider": "Plain"}),
    ("cassandra://", CASSANDRA | {"cassandra_auth_provider": "Plain"}, {"cassandra_auth_kwargs": {"a": 1}}),
    (
        "cosmosdbsql://:key@h",
        {},
        {
            "cosmosdbsql_database_name": "d",
            "cosmosdbsql_collection_name": "c",
            "cosmosdbsql_consistency_level": "Eventual",
            "cosmosdbsql_max_retry_attempts": 1,
            "cosmosdbsql_max_retry_wait_time": 2,
        },
    ),
    ("couchbase://h", {}, {"couchbase_backend_settings": {"bucket": "b", "username": "u", "password": "p"}}),
    (
        "elasticsearch://h",
        {},
        {
            "elasticsearch_timeout": 7,
            "elasticsearch_max_retries": 2,
            "elasticsearch_retry_on_timeout": True,
            "elasticsearch_save_meta_as_text": False,
        },
    ),
    ("gs", {"gcs_bucket": "b", **GCS}, {"gcs_bucket": "c", "gcs_project": "q"}),
    (
        "gs://bucket",
        GCS,
        {"gcs_base_path": "x/", "gcs_threadpool_maxsize": 4, "gcs_ttl": 600},
    ),
    ("mongodb://h:1/x", {}, MONGO),
]


def calls_of(backend: Any, libraries: dict[str, Any]) -> list[Any]:
    """The attributes that its class gave this object, what it stores, and how it calls its client library."""
    encoded = backend.encode({"result": {"a": 1}, "traceback": None})
    if "cqlexpires" in vars(backend):
        backend._get_connection(write=True)
    elif hasattr(backend, "collection") and hasattr(backend, "group_collection"):
        pass
    elif hasattr(backend, "set"):
        backend.set("key", "value")
    calls = [
        (name, value.mock_calls)
        for module in libraries.values()
        for name, value in sorted(vars(module).items())
        if isinstance(value, MagicMock) and value.mock_calls
    ]
    names = set(re.findall(r"self\.(\w+)", Path(celery_file(type(backend).__module__)).read_text()))
    own = sorted((name, value) for name, value in vars(backend).items() if name in names - {"app", "url"})
    return [own, encoded, calls]


#: what is another one in each object: addresses and times
_CHANGING = re.compile(r"id='\d+'|0x[0-9a-f]+|datetime\.datetime\([^)]*\)+|\d{4}-\d\d-\d\dT[\d:.]+Z?")


@pytest.mark.parametrize(
    ("url", "needed", "name", "value"),
    [(url, needed, *item) for url, needed, changed in SETTINGS for item in changed.items()],
    ids=lambda part: part if isinstance(part, str) and "://" not in part else "",
)
def test_a_setting_has_the_effect_that_it_has_in_celery(
    url: str, needed: dict[str, Any], name: str, value: Any, libraries: dict[str, Any]
) -> None:
    def seen(kind: type[Any], settings: dict[str, Any]) -> str:
        for module in libraries.values():
            for part in list(vars(module)):
                if isinstance(vars(module)[part], MagicMock):
                    vars(module)[part].reset_mock()
        app = kind("x", broker="memory://", backend=url, set_as_current=False)
        app.conf.update(settings)
        return _CHANGING.sub("", repr(calls_of(app.backend, libraries)))

    here = [seen(App, settings) for settings in (needed, needed | {name: value})]
    there = [seen(celery.Celery, settings) for settings in (needed, needed | {name: value})]

    assert here == there
    assert (here[0] == here[1]) == (name in effects.NO_EFFECT)


#: URL and settings of the stores whose driver is recorded: those without a server in tests/support
RECORDED: dict[str, tuple[str, dict[str, Any]]] = {
    "arangodb": ("arangodb://", {"arangodb_backend_settings": ARANGO}),
    "cassandra": ("cassandra://", CASSANDRA),
    "consul": ("consul://h:8500/path", {}),
    "cosmosdbsql": ("cosmosdbsql://:key@h", COSMOS),
    "couchbase": ("couchbase://u:p@h/bucket", {}),
    "couchdb": ("couchdb://u:p@h:1/box", {}),
    "elasticsearch": ("elasticsearch://h:1/index", {}),
    "gs": ("gs://bucket/some/path", GCS),
    "mongodb": ("mongodb://h:1/x", {"mongodb_backend_settings": {"database": "d"}}),
}


def told(
    libraries: dict[str, Any], kind: type[Any], name: str, lines: Callable[[Any], Any]
) -> tuple[str, str]:
    """What these lines find with an app of this kind, and what they tell the driver."""
    url, settings = RECORDED[name]
    result_drivers.install(libraries)
    app = kind("x", broker="memory://", backend=url, set_as_current=False)
    app.conf.update(settings)
    found = lines(app)
    return _CHANGING.sub("", repr(found)), _CHANGING.sub("", repr(result_drivers.CALLS))


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What it returns or raises; a class without such a method is refused by both."""
    try:
        return function(*args, **kwargs)
    except (AttributeError, NotImplementedError):
        return "not implemented"
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"


def lines_of_a_backend(app: Any) -> list[Any]:
    backend, found = app.backend, []
    request = Context(id="a", group="g", children=[app.AsyncResult("child")], parent_id="p", chord=None)
    found.append(backend.mark_as_started("a", pid=1))
    found.append(backend.get_task_meta("a", cache=False))
    backend.mark_as_done("a", {"value": [1, "é"]}, request=request)
    found.append(outcome(backend.store_result, "a", 2, "RETRY"))  # nothing replaces a success
    backend.mark_as_failure("b", KeyError("k"), "Traceback: here")
    backend.mark_as_retry("c", ValueError("again"), "Traceback: there")
    for task_id in "abcd":
        found += [backend.get_state(task_id), repr(backend.get_result(task_id))]
        found += [backend.get_traceback(task_id), backend.get_children(task_id)]
    found += [app.AsyncResult("a").get(timeout=1), outcome(app.AsyncResult("b").get, timeout=1)]
    found += [app.AsyncResult("c").state, app.AsyncResult("d").state]
    group = app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")])
    outcome(backend.save_group, "g", group)
    found.append(outcome(lambda: [member.id for member in backend.restore_group("g", cache=False)]))
    found.append(outcome(backend.delete_group, "g"))
    found.append(outcome(backend.restore_group, "g", cache=False))
    backend.forget("a")
    backend.forget("nothing")
    return [*found, app.AsyncResult("a").state, outcome(backend.cleanup)]


@pytest.mark.parametrize("name", RECORDED)
def test_the_driver_of_a_store_is_told_what_celery_tells_it(name: str, libraries: dict[str, Any]) -> None:
    here = told(libraries, App, name, lines_of_a_backend)
    there = told(libraries, celery.Celery, name, lines_of_a_backend)

    assert here[0] == there[0]
    assert here[1] == there[1]
    assert "SUCCESS" in here[1]
    assert ("not implemented" in here[0]) == (name == "cassandra")


def lines_of_a_chord(app: Any) -> list[Any]:
    """Two chords that the store counts, of which the second has a member that fails."""
    backend, found = app.backend, []
    app.conf.task_always_eager = True

    @app.task(name="t.body", shared=False)
    def body(values: list[int]) -> None:
        found.append(values)

    for group, failed in (("g", False), ("h", True)):
        step = body.s().set(task_id=f"{group}-body", chord_size=2)
        step["chord_size"] = 2
        members = [app.AsyncResult(f"{group}-{number}") for number in range(2)]
        backend.apply_chord((group, members), step)
        for number, member in enumerate(members):
            request = Context(id=member.id, group=group, chord=step, ignore_result=False)
            if failed and number:
                backend.mark_as_failure(member.id, KeyError("k"), "Traceback: here", request=request)
            else:
                backend.mark_as_done(member.id, number, request=request)
        found += [len(found), app.AsyncResult(step.id).state, backend.restore_group(group, cache=False)]
        found.append(repr(app.AsyncResult(step.id).result))
    return found


def reads_sorted(calls: str) -> list[str]:
    """The calls of a driver; those of threads that read together have no order. A body that did not run has
    no children, and the text of its traceback names the lines of each."""
    calls = re.sub(r'"traceback": "(ChordError|Traceback \(most).*?"children": (\[\]|null)', "", calls)
    joined = calls.replace("), ('Blob.download", "|download").split("), (")
    return [line for _, lines in groupby(joined, _is_read) for line in sorted(lines)]


def _is_read(line: str) -> bool:
    return "|download" in line


@pytest.mark.filterwarnings("ignore:Results are not stored")
@pytest.mark.parametrize("kind", [App, CeleryApp])
def test_a_chord_in_google_cloud_is_counted_as_in_celery(kind: type[Any], libraries: dict[str, Any]) -> None:
    here = told(libraries, kind, "gs", lines_of_a_chord)
    there = told(libraries, celery.Celery, "gs", lines_of_a_chord)

    assert here[0] == there[0]
    assert here[0].startswith("[[0, 1], 1,")
    assert reads_sorted(here[1]) == reads_sorted(there[1])


def test_a_setting_of_a_store_has_its_line() -> None:
    changed = {name for _, _, settings in SETTINGS for name in settings}

    assert {row.name for row in STORE_SETTINGS if row.name.partition("_")[0] in UNTESTED} <= changed


def test_every_store_is_one_of_celerys() -> None:
    from celery.app.backends import BACKEND_ALIASES

    for scheme, store in STORES.items():
        assert BACKEND_ALIASES[scheme] == store.place
        assert celery_backend(f"{scheme}://x") == celery_backend(scheme) == store.place
    assert {celery_backend(url) for url, *_ in MADE} == {store.place for store in STORES.values()}


@pytest.mark.parametrize(("kind", "error"), [(App, ConfigError), (celery.Celery, ImportError)])
def test_a_store_that_celery_only_names_is_refused_by_both(kind: type[Any], error: type[Exception]) -> None:
    app = kind("x", broker="memory://", backend="riak://h", set_as_current=False)

    @app.task(name="t", shared=False)
    def task() -> None: ...

    for call in (task.delay, task.apply, task.s().apply_async, lambda: app.AsyncResult("x").state):
        with pytest.raises(error, match="riak"):
            call()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "consul", None)
    with pytest.raises(ConfigError, match=r"needs the package 'consul', .*: pip install 'celery\[consul\]'"):
        app_of("consul://h").backend  # noqa: B018

    monkeypatch.setattr(PathFinder, "find_spec", lambda *_: None)
    with pytest.raises(ConfigError, match=r"needs the package 'celery', .*: pip install 'celery\[gcs\]'"):
        app_of("gs://b").backend  # noqa: B018


def test_a_missing_setting_is_an_error_of_the_configuration(libraries: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="bucket"):
        app_of("s3://").backend  # noqa: B018


def test_a_command_ends_as_after_other_errors_of_the_configuration() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "QCTL_RESULT_BACKEND": "couchdb://h"}
    done = subprocess.run(
        [sys.executable, "-m", "qctl", "-b", "memory://", "result", "x"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 78, done.stderr
    assert "celery[couchdb]" in done.stderr and "Traceback" not in done.stderr


def test_keys_of_azure_are_masked() -> None:
    assert "c2VjcmV0" not in mask_url(AZURE)
    assert mask_url(AZURE).endswith(";EndpointSuffix=e")


class Counting(KeyValueStoreBackend):
    """A backend of keys and values that counts, as DynamoDB's."""

    implements_incr = True
    kept: ClassVar[dict[bytes, Any]] = {}

    def get(self, key: Any) -> Any:
        return self.kept.get(key)

    def set(self, key: Any, value: Any) -> Any:
        self.kept[key] = value

    def delete(self, key: Any) -> Any:
        self.kept.pop(key, None)

    def incr(self, key: Any) -> Any:
        self.kept[key] = self.kept.get(key, 0) + 1
        return self.kept[key]


@pytest.mark.parametrize("failed", [False, True])
def test_a_store_that_counts_completes_a_chord(failed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "kept", {})
    app = app_of(f"{__name__}:Counting")
    body = {"task": "t.body", "args": [], "kwargs": {}, "options": {"task_id": "body"}, "chord_size": 2}
    app.results.chord_headers([("g", [(("a", None), None), (("b", None), None)])])
    sent: list[Any] = []
    monkeypatch.setattr(App, "send_messages", lambda self, messages, *a, **o: sent.extend(messages))

    for number, task_id in enumerate("ab"):
        bad = failed and task_id == "b"
        value = wire.exception_data(KeyError("k")) if bad else number
        meta = wire.encode(task_id, "FAILURE" if bad else "SUCCESS", value, now=1.0)
        app.results.store([StoredResult(task_id, meta)])
        entry = app.results.form.dumps([1, task_id, "FAILURE" if bad else "SUCCESS", value])
        part = ChordPart("g", task_id, number, entry, app.results.form.dumps(body))
        assert app.results.chord_parts([part], None) == [None]
        assert len(sent) == (not failed and task_id == "b")

    assert set(Counting.kept) == {
        b"celery-task-meta-" + name for name in ((b"a", b"b", b"body") if failed else (b"a", b"b"))
    }
    (found,) = app.results.get(["body"])
    assert (found is not None and found.status == "FAILURE") == failed
