"""The stores of Celery's backends: the result suite, and the same keys, files and rows as Celery's.

Celery runs in a process of its own; what one of the two wrote is read by the other.
"""

from __future__ import annotations

import json
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery as celery_package
import pytest

from qcore.app.app import App
from qcore.errors import BrokerDown, ConfigError, Malformed
from qcore.results.base import ResultStore
from tests.contracts.result_contract import OpenStore, ResultContract, stored
from tests.support.memcached_server import Server


def opener(url: str, **settings: Any) -> Iterator[OpenStore]:
    apps: list[App] = []

    def open_one() -> ResultStore:
        apps.append(App("x", broker="memory://", backend=url, **settings))
        return apps[-1].results

    yield open_one
    for app in apps:
        app.close()


class TestFiles(ResultContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[OpenStore]:
        yield from opener(f"file://{tmp_path}")


class TestMemoryCache(ResultContract):
    @pytest.fixture
    def open_store(self) -> Iterator[OpenStore]:
        yield from opener("cache+memory://")


class TestMemcached(ResultContract):
    @pytest.fixture
    def open_store(self, memcached_place: str) -> Iterator[OpenStore]:
        yield from opener(f"cache+memcached://{memcached_place}/")


class TestDatabase(ResultContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[OpenStore]:
        yield from opener(f"db+sqlite:///{tmp_path}/results.db")


class TestExtendedDatabase(ResultContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[OpenStore]:
        yield from opener(
            f"db+sqlite:///{tmp_path}/results.db",
            result_extended=True,
            database_short_lived_sessions=True,
            database_table_names={"task": "our_tasks", "group": "our_groups"},
        )


CELERY = """
import json, sys
from celery import Celery
from celery.result import AsyncResult, GroupResult
url, extended = sys.argv[1], len(sys.argv) > 2
app = Celery("x", broker="memory://", backend=url, set_as_default=True)
app.conf.result_extended = extended
class Request:
    task, args, kwargs, hostname, retries = "t.add", [1, 2], {"a": "é"}, "w@h", 3
    delivery_info = {"routing_key": "q"}
    group = parent_id = root_id = None
    children, stamps, stamped_headers = [], None, None
app.backend.store_result("theirs", {"x": [1, "é"]}, "SUCCESS", request=Request())
app.backend.store_result("failed", ValueError("no", 3), "FAILURE", traceback="tb", request=Request())
GroupResult("their-group", [AsyncResult("a"), AsyncResult("b")]).save()
ours = AsyncResult("ours")
failed = AsyncResult("ours-failed")
group = GroupResult.restore("our-group")
print(json.dumps([
    ours.state, ours.result, repr(failed.result), failed.traceback, [r.id for r in group or ()],
    [ours.name, ours.args, ours.kwargs, ours.worker, ours.retries, ours.queue],
    ours.date_done is not None,
]))
"""


def celery(url: str, *words: str) -> Any:
    """What Celery reads of what is stored, after it has stored something itself."""
    run = subprocess.run(
        [sys.executable, "-c", CELERY, url, *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def exchange(url: str, extended: bool = False) -> None:
    from qcore.wire import result

    app = App("x", broker="memory://", backend=url, result_extended=extended)
    store = app.results
    facts = {"name": "t.a", "args": [1], "kwargs": {"b": 2}, "worker": "w@h", "retries": 1, "queue": "q"}
    ours = stored("ours", None)
    meta = result.encode("ours", "SUCCESS", {"y": "ü"}, now=1e9, extended=facts if extended else None)
    store.store([type(ours)("ours", meta)])
    meta = result.encode("f", "FAILURE", result.exception_data(KeyError("k")), now=1e9, traceback="our tb")
    store.store([type(ours)("ours-failed", meta)])
    store.save_group("our-group", [["our-group", None], [[["m", None], None], [["n", None], None]]], None)

    seen = celery(url, *(["extended"] if extended else []))

    assert seen[:5] == ["SUCCESS", {"y": "ü"}, "KeyError('k')", "our tb", ["m", "n"]] and seen[6]
    assert seen[5] == (list(facts.values()) if extended else [None] * 6)
    theirs, failed = store.get(["theirs", "failed"])
    assert theirs and (theirs.status, theirs.result, theirs.task_id) == ("SUCCESS", {"x": [1, "é"]}, "theirs")
    assert failed and repr(result.exception_from(failed.result)) == "ValueError('no', 3)"
    assert failed.traceback == "tb" and failed.date_done
    assert store.restore_group("their-group") == [
        ["their-group", None],
        [[["a", None], None], [["b", None], None]],
    ]
    if extended:
        assert (theirs.name, theirs.args, theirs.kwargs) == ("t.add", [1, 2], {"a": "é"})
        assert (theirs.worker, theirs.retries, theirs.queue) == ("w@h", 3, "q")
    app.close()


def test_celery_and_qcore_read_each_others_files(tmp_path: Path) -> None:
    exchange(f"file://{tmp_path}")

    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"celery-task-meta-{i}" for i in ("ours", "ours-failed", "theirs", "failed")} | {
        "celery-taskset-meta-our-group",
        "celery-taskset-meta-their-group",
    }


@pytest.mark.parametrize("extended", [False, True])
def test_celery_and_qcore_read_each_others_rows(tmp_path: Path, extended: bool) -> None:
    exchange(f"db+sqlite:///{tmp_path}/r.db", extended)


@pytest.mark.parametrize("kind", [celery_package.Celery, App])
@pytest.mark.parametrize("at_setup", [True, False])
def test_tables_are_made_when_the_database_is_opened(kind: Any, at_setup: bool, tmp_path: Path) -> None:
    url = f"db+sqlite:///{tmp_path}/r.db"
    app = kind("x", broker="memory://", backend=url, set_as_current=False)
    app.conf.database_create_tables_at_setup = at_setup

    def tables() -> set[str]:
        with sqlite3.connect(tmp_path / "r.db") as database:
            return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")}

    wanted = {"celery_taskmeta", "celery_tasksetmeta"}
    backend = app.backend
    assert (wanted <= tables()) == at_setup
    assert backend.get_task_meta("x")["status"] == "PENDING"
    assert wanted <= tables()


def test_celery_and_qcore_read_each_others_keys_in_memcached(memcached_place: str, memcached: Server) -> None:
    exchange(f"cache+memcached://{memcached_place}/")

    assert "celery-task-meta-ours" in memcached.keys and "celery-task-meta-theirs" in memcached.keys


def test_celery_and_qcore_read_each_others_groups_on_redis(redis_url: str) -> None:
    exchange(redis_url)


def test_a_pickled_value_is_not_loaded_from_a_table(tmp_path: Path) -> None:
    app = App("x", broker="memory://", backend=f"db+sqlite:///{tmp_path}/r.db")
    app.results.store([stored("x", 1)])
    with sqlite3.connect(tmp_path / "r.db") as database:
        database.execute("UPDATE celery_taskmeta SET result = ?", (pickle.dumps({"a": 1}),))

    with pytest.raises(Malformed, match=r"not what result_serializer \(json\) writes"):
        app.results.get(["x"])
    app.close()


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        ("file:///no/such/folder", ConfigError, "create it"),
        ("file://", ConfigError, "names no directory"),
        ("cache+memcached://", ConfigError, "names no server"),
        ("db+nosuch://x", ConfigError, "cannot be opened"),
        ("database", ConfigError, "database_url"),
        ("cache", ConfigError, "cache_backend"),
        ("db+sqlite:////no/such/folder/x.db", BrokerDown, "unable to open"),
        ("cache+memcached://127.0.0.1:1/", BrokerDown, "efused"),
    ],
)
def test_a_store_that_cannot_be_used_says_why(url: str, error: type[Exception], text: str) -> None:
    app = App("x", broker="memory://", backend=url)

    with pytest.raises(error, match=text):
        app.results.get(["x"])


def test_other_settings_hold_the_url_as_in_celery(tmp_path: Path) -> None:
    one = App("x", broker="memory://", backend="database", database_url=f"sqlite:///{tmp_path}/r.db")
    one.results.store([stored("x", 1)])
    two = App("x", broker="memory://", backend="cache", cache_backend="memory://")
    two.results.store([stored("x", 2)])

    assert (tmp_path / "r.db").exists()
    assert [meta and meta.result for app in (one, two) for meta in app.results.get(["x"])] == [1, 2]
    one.close()
