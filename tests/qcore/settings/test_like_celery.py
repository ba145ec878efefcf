"""Settings do what they do in Celery: the same lines on both."""

from __future__ import annotations

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import celery
import celery.backends.base
import celery.exceptions
import pytest
from kombu import Queue

import qcore.celery.app
from qcore import App
from qcore.app.connections import Connections, consume
from qcore.app.key_values import KeyValueStoreBackend
from qcore.errors import BrokerDown, ConfigError, QcoreError, QueueNotFound
from qcore.settings.config import Config
from qcore.wire.reprs import short_repr
from qcore.wire.task import read
from qcore.worker.outage import reach
from qcore.worker.process.options import concurrency_of, file_name, queue_names
from qcore.worker.worker import Worker

KINDS = {"qcore": qcore.celery.app.Celery, "celery": celery.Celery}
MISSING = {"qcore": QueueNotFound, "celery": celery.exceptions.QueueNotFound}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def app_of(kind: str, url: str = "memory://settings", **settings: Any) -> Any:
    app = KINDS[kind]("project", broker=url, backend="", set_as_current=False)
    app.conf.update(settings)
    return app


def ours(**settings: Any) -> App:
    return App("project", set_as_current=False, changes=settings)


def nothing() -> None: ...


def waiting(url: str, queue: str = "celery") -> dict[str, Any]:
    """The headers of the one message in a queue."""
    import redis

    with redis.Redis.from_url(url) as client:
        (raw,) = client.lrange(queue, 0, -1)
    found: dict[str, Any] = json.loads(raw)["headers"]
    return found


# --- tasks


@pytest.mark.parametrize("settings", [{}, {"timezone": "Asia/Tokyo"}, {"enable_utc": False}])
def test_an_eta_without_a_zone_is_utc_whatever_the_settings_say(kind: str, settings: dict[str, Any]) -> None:
    """Celery 5.7 sends it as it is, and its worker takes it as UTC."""
    noon = datetime(2030, 1, 1, 12)
    app = app_of(kind, **settings)
    if kind == "qcore":
        at = app.message("t", (), {}, "id", {"eta": noon}).due_at
    else:
        from celery.worker.request import Request

        made = app.amqp.create_task_message("id", "t", (), {}, eta=noon)
        task = app.task(name="t")(nothing)

        class Message:
            headers, body, payload, properties, delivery_info = made.headers, b"", made.body, {}, {}
            content_type, content_encoding = "application/json", "utf-8"

        at = Request(Message, app=app, headers=made.headers, body=made.body, task=task, decoded=True)
        at = at.eta.timestamp()

    assert at == 1893499200.0  # 12:00 UTC


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {"queue": "typo"}),
        ({"task_routes": {"t": {"queue": "typo"}}}, {}),
        ({"task_queues": [Queue("a")]}, {}),  # task_default_queue is not among them
        ({"task_queues": [Queue("a")]}, {"queue": "b"}),
    ],
)
def test_a_queue_that_is_not_named_is_an_error(
    kind: str, settings: dict[str, Any], options: dict[str, Any]
) -> None:
    app = app_of(kind, task_create_missing_queues=False, **settings)

    with pytest.raises(MISSING[kind]) as caught:
        app.send_task("t", **options)

    assert isinstance(caught.value, KeyError)
    assert "task_queues" in str(caught.value)


@pytest.mark.parametrize(("settings", "options"), [({}, {}), ({"task_queues": [Queue("a")]}, {"queue": "a"})])
def test_a_queue_that_is_named_is_none(kind: str, settings: dict[str, Any], options: dict[str, Any]) -> None:
    app = app_of(kind, task_create_missing_queues=False, **settings)

    assert app.send_task("t", **options).id


def test_a_worker_does_not_start_with_a_queue_that_is_not_named() -> None:
    conf = Config({"task_create_missing_queues": False, "task_queues": ["mail", "web"]}, environ={})

    assert queue_names(conf, ["web"], None) == ("web",)
    with pytest.raises(ConfigError, match="task_queues has no queue 'wbe'"):
        queue_names(conf, ["wbe"], None)


def test_a_call_by_name_leaves_it_to_the_worker_whether_its_result_is_stored(
    kind: str, redis_url: str
) -> None:
    app = app_of(kind, redis_url, task_ignore_result=True)

    assert not app.send_task("t").ignored
    assert waiting(redis_url)["ignore_result"] is None


def test_a_call_of_a_task_says_that_its_result_is_ignored(kind: str, redis_url: str) -> None:
    app = app_of(kind, redis_url, task_ignore_result=True)
    task = app.task(name="t")(nothing)

    assert task.delay().ignored
    assert waiting(redis_url)["ignore_result"] is True


def test_redis_has_all_priorities_whatever_the_setting_says(kind: str, redis_url: str) -> None:
    import redis

    app_of(kind, redis_url, task_queue_max_priority=2).send_task("t", priority=9)

    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.keys("celery*") == ["celery\x06\x169"]


@pytest.mark.parametrize("levels", [None, 0, 1, 2, 5])
def test_texts_of_arguments_show_so_many_levels(levels: int | None) -> None:
    args = (
        1,
        "a",
        [1, [2, [3, {"k": [4]}]]],
        ((), ((),)),
        {1, (2, (3, (4,)))},
        [[[]], [{}], [(1,)], [(1, 2)]],
    )
    kwargs = {"x": {"y": {"z": {"u": {}}}}, "f": [[frozenset([frozenset()]), set(), {1}]], "plain": [1, 2]}
    settings = {} if levels is None else {"task_repr_maxlevels": levels}
    theirs = app_of("celery", **settings).amqp.as_task_v2("id", "t", args, kwargs).headers
    app = app_of("qcore", f"memory://levels-{levels}", **settings)
    wanted = theirs["argsrepr"], theirs["kwargsrepr"]

    short = args[:4]  # of which JSON has all but the types
    own = app_of("celery", **settings).amqp.as_task_v2("id", "t", short, {}).headers["argsrepr"]
    app.send_task("t", short)
    app.send_many("t", [short, short])
    sent = [read(raw).headers["argsrepr"] for raw in app.broker.administration.peek("celery", 5)]

    shown = (short_repr(args, app.conf.task_repr_maxlevels), short_repr(kwargs, app.conf.task_repr_maxlevels))
    assert shown == wanted
    assert sent == [own] * 3


# --- the broker's URL


@pytest.mark.parametrize(
    "settings",
    [
        {
            "broker_host": "h",
            "broker_port": 7,
            "broker_user": "u",
            "broker_password": "p@w",
            "broker_vhost": "v",
            "broker_transport": "amqp",
        },
        {"broker_host": "h", "broker_port": 7, "broker_transport": "redis", "broker_vhost": "3"},
        {"broker_host": "redis://q:1/2", "broker_port": 6},
        {"broker_url": "redis://q:1/2", "broker_port": 6, "broker_password": "x"},
        {"broker_url": "redis://u:p@q:1/2", "broker_user": "x", "broker_password": "x"},
    ],
)
def test_a_url_has_what_other_settings_say_of_its_missing_parts(settings: dict[str, Any]) -> None:
    theirs = celery.Celery("project", set_as_current=False)
    theirs.conf.update(settings)

    assert ours(**settings).broker_url() == theirs.connection_for_write().as_uri(include_password=True)


def test_without_such_a_setting_a_url_is_as_it_was_set() -> None:
    for url in ("redis://h", "amqp://u@h//", "redis://a/0;redis://b/0", "sqlite:///x.db", "memory://m"):
        assert ours(broker_url=url).broker_url() == url
    assert ours(broker_transport="redis").broker_url() == "redis://localhost"


@pytest.mark.parametrize(
    ("read", "write"), [("redis://r:1/0", "redis://w:1/0"), (None, "redis://w:1/0"), ("redis://r:1/0", None)]
)
def test_a_worker_reads_from_one_url_and_others_write_to_another(read: str | None, write: str | None) -> None:
    settings = {"broker_url": "redis://a:1/0", "broker_read_url": read, "broker_write_url": write}
    theirs = celery.Celery("project", set_as_current=False)
    theirs.conf.update(settings)
    app = ours(**settings)
    wrote = app.broker_url()
    consume(app)

    assert wrote == theirs.connection_for_write().as_uri(include_password=True)
    assert app.broker_url() == theirs.connection_for_read().as_uri(include_password=True)


# --- the result store


@pytest.mark.parametrize(
    ("url", "settings", "whole"),
    [
        ("redis", {"redis_host": "h", "redis_port": 7, "redis_db": 3}, "redis://h:7/3"),
        ("redis", {}, "redis://localhost"),
        ("redis://h/1", {"redis_password": "p", "redis_db": 3}, "redis://:p@h/1"),
        ("redis://h", {"redis_username": "u", "redis_password": "p w"}, "redis://u:p%20w@h"),
        ("redis://u:own@h/1", {"redis_password": "p"}, "redis://u:own@h/1"),
        ("rediss://h/1?x=y", {"redis_port": 9}, "rediss://h:9/1?x=y"),
    ],
)
def test_the_url_of_results_has_what_other_settings_say(
    url: str, settings: dict[str, Any], whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(
        "qcore.results.registry.results.get", lambda name: lambda *given: opened.append(given)
    )
    app = ours(broker_url="memory://", result_backend=url, redis_client_name="mine", **settings)
    app._connections._open_results()

    assert opened[0][0] == whole
    assert opened[0][1]["client_name"] == "mine"
    assert "socket_timeout" not in opened[0][1]


@pytest.mark.parametrize("is_broker", [True, False])
def test_connections_of_results_have_their_name_and_are_checked(
    kind: str, is_broker: bool, redis_url: str
) -> None:
    import redis

    pings = {}
    for interval_s in (None, 0.01):
        app = app_of(kind, redis_url if is_broker else "memory://settings", result_backend=redis_url)
        app.conf.update(redis_client_name="mine", redis_backend_health_check_interval=interval_s)
        with redis.Redis.from_url(redis_url) as client, client.monitor() as seen:
            assert app.AsyncResult("x").state == "PENDING"
            time.sleep(0.02)
            assert app.AsyncResult("x").state == "PENDING"
            mine = {found["addr"] for found in client.client_list() if found["name"] == "mine"}
            client.echo("end")
            commands = iter(seen.next_command, None)
            said = list(itertools.takewhile(lambda found: found["command"] != "ECHO end", commands))
        app.close()
        places = [f"{found['client_address']}:{found['client_port']}" for found in said]
        pings[interval_s] = any(
            found["command"] == "PING" for found, place in zip(said, places, strict=True) if place in mine
        )
        assert any(place in mine for place in places)

    assert pings == {None: False, 0.01: True}


@pytest.mark.parametrize(
    ("most", "kept"), [(2, ["a", "c"]), (-1, []), (0, ["a", "b", "c", "g"]), (None, ["a", "b", "c", "g"])]
)
def test_results_that_were_read_are_kept(
    kind: str, most: int | None, kept: list[str], redis_url: str
) -> None:
    import redis

    app = app_of(kind, result_backend=redis_url, result_cache_max=most)
    backend = app.backend
    for task_id in "abc":
        backend.store_result(task_id, task_id, "SUCCESS")
    backend.store_result("bad", ValueError("x"), "FAILURE")
    app.GroupResult("g", [app.AsyncResult("m")]).save()
    assert backend.restore_group("g")
    for task_id in ("a", "b", "a", "c", "bad"):
        assert app.AsyncResult(task_id).ready()
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()

    assert [i for i in "abc" if app.AsyncResult(i).state == "SUCCESS"] == [i for i in kept if i != "g"]
    assert [i for i in ("a", "b", "c", "bad") if backend.is_cached(i)] == [i for i in kept if i != "g"]
    assert (backend.restore_group("g") is not None) == ("g" in kept)
    assert app.AsyncResult("bad").state == "PENDING"
    assert not backend.task_result_exists("a")
    if kept:
        assert app.AsyncResult("a").result == "a"
        app.AsyncResult("a").forget()
        backend.reload_task_result("c")
        assert app.AsyncResult("a").state == "PENDING"
        assert backend.get_task_meta("c", cache=False)["status"] == "PENDING"
    if kind == "celery":
        backend.result_consumer._pubsub = None  # what is collected later has no server any more
    app.close()


def test_results_of_failed_tasks_have_a_time_of_their_own(kind: str, redis_url: str) -> None:
    import redis

    found = {}
    for seconds in (None, 50, 0):
        app = app_of(kind, result_backend=redis_url, result_expires=500, result_failure_expires=seconds)
        for state, value in (("SUCCESS", 1), ("RETRY", KeyError("k")), ("FAILURE", KeyError("k"))):
            app.backend.store_result(f"{state}-{seconds}", value, state)
        with redis.Redis.from_url(redis_url, decode_responses=True) as client:
            found |= {key.rpartition("meta-")[2]: client.ttl(key) for key in client.keys("*meta*")}
        app.close()

    kept = {state for state, left_s in found.items() if left_s > 490}
    assert kept == {f"{state}-{n}" for state in ("SUCCESS", "RETRY") for n in (None, 50, 0)} | {
        "FAILURE-None"
    }
    assert 40 < found["FAILURE-50"] <= 50
    assert found["FAILURE-0"] == -1


class Ours(KeyValueStoreBackend):
    """A backend class of another package."""


class Theirs(celery.backends.base.KeyValueStoreBackend):  # type: ignore[misc]  # Celery has no types
    """The same."""


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("is_own", [False, True])
def test_threads_have_backends_of_their_own(kind: str, is_own: bool, is_shared: bool) -> None:
    place = f"{__name__}:{'Ours' if kind == 'qcore' else 'Theirs'}"
    url = "cache+memory://" if is_own else place
    app = app_of(kind, result_backend=url, result_backend_thread_safe=is_shared)
    with ThreadPoolExecutor(1) as other:
        there = other.submit(lambda: (app.backend, app.backend)).result()

    assert there[0] is there[1]
    assert (there[0] is app.backend) == is_shared
    assert app.backend is app.backend


def test_backend_classes_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(Connections, "_open_foreign", lambda self, *given: opened.append(given))
    names = {"mine": "proj.backends:Mine"}

    _ = ours(broker_url="memory://", result_backend="mine://there", override_backends=names).results

    assert opened == [("mine://there", "proj.backends:Mine")]
    with pytest.raises(QcoreError, match="mine"):
        _ = ours(broker_url="memory://", result_backend="mine://there").results


# --- workers


class Away:
    """An app whose broker answers at the nth request."""

    def __init__(self, answers_at: int, **settings: Any) -> None:
        self.conf, self.left = Config(settings, environ={}), answers_at
        self.broker = self

    def broker_url(self) -> str:
        return "redis://away"

    def check(self) -> None:
        self.left -= 1
        if self.left > 0:
            raise BrokerDown(self.broker_url(), "refused")


def test_a_worker_waits_for_its_broker_with_celerys_intervals(caplog: pytest.LogCaptureFixture) -> None:
    pauses: list[float] = []
    reach(Away(20), pauses.append)

    assert pauses == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 30, 30, 30, 30]
    assert "redis://away" in caplog.messages[0]
    assert caplog.messages[0].endswith("try 1 of 100 to connect follows in 2 s")


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({"broker_connection_retry": False}, 0),
        ({"broker_connection_retry_on_startup": False}, 0),
        ({"broker_connection_retry_on_startup": True, "broker_connection_retry": False}, 100),
        ({"broker_connection_max_retries": 3}, 3),
    ],
)
def test_how_often_a_worker_tries(settings: dict[str, Any], most: int) -> None:
    pauses: list[float] = []
    with pytest.raises(BrokerDown):
        reach(Away(1000, **settings), pauses.append)

    assert len(pauses) == most


@pytest.mark.parametrize("most", [None, 0])
def test_without_a_limit_a_worker_tries_until_it_succeeds(most: int | None) -> None:
    pauses: list[float] = []
    reach(Away(500, broker_connection_max_retries=most), pauses.append)

    assert len(pauses) == 499


@pytest.mark.parametrize("value", [None, 0, "0"])
def test_a_concurrency_of_0_is_the_default(value: Any) -> None:
    assert concurrency_of(value, 7) == 7


@pytest.mark.parametrize(
    ("settings", "given", "multiplier"),
    [
        ({}, None, 4),
        ({"worker_prefetch_multiplier": 0}, None, 0),
        ({"worker_prefetch_multiplier": 2}, 0, 0),
        ({"worker_prefetch_multiplier": 2}, 3, 3),
        ({"worker_disable_prefetch": True}, 3, 1),
    ],
)
def test_the_prefetch_limit(settings: dict[str, Any], given: int | None, multiplier: int) -> None:
    worker = Worker(ours(broker_url="memory://", **settings), prefetch_multiplier=given, pool="solo")

    assert worker._multiplier == multiplier
    assert worker._setup.strict_prefetch is (multiplier == 1)


def test_a_worker_has_a_queue_of_its_own_named_as_in_celery() -> None:
    from celery.utils.nodenames import worker_direct

    app = ours(broker_url="memory://", worker_direct=True)

    assert Worker(app, hostname="w@h", pool="solo")._queues == ("celery", worker_direct("w@h").name)


@pytest.mark.parametrize("template", ["/var/log/%n%I.log", "%h-%d.%i", "%p", "100%%", "plain.log"])
@pytest.mark.parametrize("node", ["w@host.example.org", "celery@h"])
def test_names_of_files_have_parts_of_the_nodes_name(template: str, node: str) -> None:
    from celery.utils.nodenames import node_format

    assert file_name(template, node) == node_format(template, node)


def test_a_letter_without_a_meaning_is_an_error_as_in_celery() -> None:
    from celery.utils.nodenames import node_format

    with pytest.raises(ValueError, match="%x"):
        node_format("%x.log", "w@h")
    with pytest.raises(ConfigError, match=r"'%x' in '%x\.log' has no meaning"):
        file_name("%x.log", "w@h")


def test_a_process_that_a_worker_forks_writes_to_the_other_url() -> None:
    app = ours(broker_url="memory://a", broker_read_url="memory://r", broker_write_url="memory://w")
    consume(app)
    assert app.broker.url == "memory://r"

    app._connections._pid = -1  # that of a parent

    assert app.broker.url == "memory://w"
    app.close()


def test_the_command_line_names_the_broker_of_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_READ_URL", "redis://r")
    assert Config().broker_read_url == "redis://r"
    monkeypatch.setenv("QCTL_BROKER_URL", "redis://q")

    assert {Config()[name] for name in ("broker_url", "broker_read_url", "broker_write_url")} == {"redis://q"}
