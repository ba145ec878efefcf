"""What an app offers besides tasks: kombu's connections, queues, loader, logging, pickling, errors.
The same lines run on Celery's class and on the one that `import celery` means under qctl."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import re
import subprocess
import sys
from typing import Any

import billiard.exceptions
import celery
import kombu.exceptions
import pytest
from pydantic import BaseModel, ValidationError

import qcore
import qcore.celery.app
import qcore.celery.logs
from qcore import errors
from qcore.brokers.contract.records import Message
from qcore.tasks.request import Request
from qcore.wire.event import decode
from tests.support.redis_server import free_port

KINDS = {"qcore": qcore.celery.app.Celery, "celery": celery.Celery}


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, redis_url: str) -> Any:
    return KINDS[request.param]("project", broker=redis_url, backend=redis_url, set_as_current=False)


def waiting(url: str, queue: str = "celery") -> list[dict[str, Any]]:
    import redis

    with redis.Redis.from_url(url) as client:
        return [json.loads(raw) for raw in client.lrange(queue, 0, -1)]


def adds(x: int, y: int) -> int:
    return x + y


def nothing() -> None: ...


def own_id(self: Any) -> Any:
    return self.request.id


# --- kombu


def test_connections_and_producers_are_kombus(app: Any, redis_url: str) -> None:
    with app.connection_for_write() as connection:
        assert connection.ensure_connection(max_retries=1).connected
    with app.connection_for_read() as connection, app.connection_or_acquire(connection) as same:
        assert same is connection
    with app.producer_or_acquire() as producer:
        app.send_task("t.one", (1,), producer=producer)
        producer.publish({"by": "hand"}, routing_key="other")
    with app.pool.acquire(block=True) as connection:
        app.send_task("t.two", (2,), connection=connection, priority=3, expires=60)
    assert [m["headers"]["task"] for m in waiting(redis_url)] == ["t.one"]
    (two,) = waiting(redis_url, "celery\x06\x163")
    assert two["headers"]["task"] == "t.two" and two["properties"]["expiration"] == "60000"
    assert len(waiting(redis_url, "other")) == 1


def test_a_call_over_a_connection_reaches_the_broker_of_that_connection(app: Any, redis_url: str) -> None:
    elsewhere = redis_url.rsplit("/", 1)[0] + "/9"
    with kombu.Connection(elsewhere) as connection:
        app.send_task("t.away", connection=connection)
    assert not waiting(redis_url)
    assert [m["headers"]["task"] for m in waiting(elsewhere)] == ["t.away"]


def test_queues_and_routes(app: Any) -> None:
    app.conf.task_queues = [kombu.Queue("a", routing_key="a.#"), kombu.Queue("b")]
    app.conf.task_routes = {"t.*": {"queue": "b", "priority": 4}}
    queues = app.amqp.queues
    assert list(queues) == ["a", "b"]
    assert queues["c"].name == "c" == queues["c"].routing_key
    assert app.amqp.router.route({}, "t.x")["queue"].name == "b"
    app.select_queues(["a"])
    assert list(queues.consume_from) == ["a"]
    with app.connection() as connection:
        assert [q.name for q in app.amqp.TaskConsumer(connection).queues] == ["a"]


def test_an_unknown_queue_is_an_error_where_missing_ones_are_not_made(app: Any) -> None:
    app.conf.task_create_missing_queues = False
    with pytest.raises(KeyError):
        app.amqp.queues["typo"]


def test_sqlite_has_no_connection_of_kombu() -> None:
    app = qcore.celery.app.Celery("x", broker="sqlite://", set_as_current=False)
    with pytest.raises(errors.Unsupported, match="use Redis or RabbitMQ"):
        app.connection()


@pytest.mark.parametrize(
    ("given", "mode"), [({}, 2), ({"delivery_mode": "transient"}, 1), ({"delivery_mode": 1}, 1)]
)
def test_the_delivery_mode_of_a_call_is_in_its_message(
    app: Any, redis_url: str, given: Any, mode: int
) -> None:
    app.send_task("t.x", **given)
    (message,) = waiting(redis_url)
    assert message["properties"]["delivery_mode"] == mode


def test_the_delivery_mode_of_a_task_is_in_its_messages(app: Any, redis_url: str) -> None:
    app.task(shared=False, name="t.own", delivery_mode=1)(nothing).delay()
    (message,) = waiting(redis_url)
    assert message["properties"]["delivery_mode"] == 1


def test_the_retry_policy_of_a_call_counts(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = qcore.celery.app.Celery("x", broker=redis_url, set_as_current=False)
    tries: list[list[Message]] = []

    def down(messages: list[Message]) -> None:
        tries.append(messages)
        raise errors.BrokerDown(redis_url, "pulled out")

    monkeypatch.setattr(app.broker, "publish", down)
    with pytest.raises(errors.BrokerDown):
        app.send_task("t.x", retry_policy={"max_retries": 2, "interval_start": 0, "interval_step": 0})
    assert len(tries) == 3
    with pytest.raises(errors.BrokerDown):
        app.signature("t.x").apply_async(retry=False)
    assert len(tries) == 4


def test_workflows_call_what_a_project_overrides_to_send(app: Any, redis_url: str) -> None:
    kit = celery if isinstance(app, celery.Celery) else qcore
    sent: list[tuple[str, Any]] = []

    class Own(app.Task):  # type: ignore[name-defined, misc]
        abstract = True

        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            sent.append((self.name, tuple(args)))
            options["headers"] = {**(options.get("headers") or {}), "region": "eu"}
            return super().apply_async(args, kwargs, **options)

    add = app.task(shared=False, name="t.own", base=Own)(adds)
    kit.group(add.s(1, 1), add.s(2, 2)).apply_async()
    kit.chain(add.s(3, 3), add.s(4)).apply_async()
    assert sent == [("t.own", (1, 1)), ("t.own", (2, 2)), ("t.own", (3, 3))]
    assert [m["headers"]["region"] for m in waiting(redis_url)] == ["eu"] * 3


def test_workflows_call_an_overridden_send_task(app: Any, redis_url: str) -> None:
    kit = celery if isinstance(app, celery.Celery) else qcore
    sent: list[str] = []

    class Own(type(app)):  # type: ignore[misc]
        def send_task(self, name: str, *args: Any, **options: Any) -> Any:
            sent.append(name)
            return super().send_task(name, *args, **options)

    mine = Own("own", broker=redis_url, backend=redis_url, set_as_current=False)
    add = mine.task(shared=False, name="t.add")(adds)
    result = kit.group(add.s(1, 1), add.s(2, 2)).apply_async()
    assert sent == ["t.add", "t.add"]
    assert {m["headers"]["id"] for m in waiting(redis_url)} == {one.id for one in result.results}


# --- errors


def test_a_broker_that_is_down_is_kombus_operational_error() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    for kind in KINDS.values():
        app = kind("x", broker=url, set_as_current=False, broker_connection_timeout=1)
        with pytest.raises(kombu.exceptions.OperationalError):
            app.send_task("t.x", retry=False)


def test_arguments_without_a_json_form_are_kombus_encode_error(app: Any) -> None:
    with pytest.raises(kombu.exceptions.EncodeError):
        app.send_task("t.x", (object(),))
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises((kombu.exceptions.EncodeError, RecursionError)):
        app.send_task("t.x", (ring,))


@pytest.mark.parametrize(
    "name", ["SoftTimeLimitExceeded", "TimeLimitExceeded", "WorkerLostError", "Terminated"]
)
def test_limits_are_caught_as_billiards(name: str) -> None:
    made = getattr(errors, name)("why")
    assert isinstance(made, getattr(billiard.exceptions, name))
    assert (type(made).__name__, type(made).__module__, made.args) == (name, "qcore.errors", ("why",))


def test_such_errors_can_be_pickled_and_subclassed() -> None:
    again = pickle.loads(pickle.dumps(errors.BrokerDown("redis://h", "gone")))
    assert isinstance(again, errors.BrokerDown) and again.reason == "gone"

    class Mine(errors.BrokerDown): ...

    assert isinstance(copy.copy(Mine("u", "r")), Mine)


def test_kombu_is_not_imported_for_them() -> None:
    lines = (
        "import sys; from qcore import errors; errors.BrokerDown('u'); errors.SoftTimeLimitExceeded()\n"
        "assert not {'kombu', 'billiard'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", lines], check=True)


# --- app, tasks, registry


def test_an_app_is_pickled_with_its_settings_and_without_its_tasks(app: Any, redis_url: str) -> None:
    app.conf.task_default_queue = "mine"
    app.task(shared=False, name="t.add")(adds)
    again = pickle.loads(pickle.dumps(app))
    assert type(again) is type(app) and again.main == "project"
    assert (again.conf.task_default_queue, again.conf.broker_url) == ("mine", redis_url)
    assert "t.add" not in again.tasks


def test_the_registry_of_tasks(app: Any) -> None:
    task = app.task(shared=False, name="t.add")(adds)
    assert app.tasks["t.add"] is task or app.tasks["t.add"].name == task.name
    kind = type(app.tasks.NotRegistered("x"))
    with pytest.raises(kind):
        app.tasks["t.ad"]
    with pytest.raises(KeyError):
        app.tasks["t.ad"]
    app.tasks.unregister("t.add")
    assert "t.add" not in app.tasks
    with pytest.raises(kind):
        app.tasks.unregister("t.add")

    class Named(app.Task):  # type: ignore[name-defined, misc]
        name = "t.named"

        def run(self) -> int:
            return 5

    app.tasks.register(Named)
    assert "t.named" in app.tasks


def test_a_function_and_options_make_a_task_at_once(app: Any) -> None:
    made = app.task(adds, name="t.adds", max_retries=7, shared=False)
    (celery if isinstance(app, celery.Celery) else qcore).shared_task(adds, name="t.shared_adds")
    shared = app.tasks["t.shared_adds"]

    assert (made.name, made.max_retries, made(1, 2)) == ("t.adds", 7, 3)
    assert (shared.name, shared(1, 2)) == ("t.shared_adds", 3)
    with pytest.raises(TypeError):
        app.task("t.adds")


def test_shared_true_gives_the_task_to_other_apps_too(app: Any) -> None:
    other = type(app)("other", broker="memory://", set_as_current=False)
    app.task(name="t.everywhere", shared=True)(nothing)
    assert "t.everywhere" in other.tasks


def test_requests_can_be_pushed_and_become_signatures(app: Any) -> None:
    task = app.task(shared=False, name="t.bound", bind=True)(own_id)
    task.push_request(
        id="one", args=(1,), kwargs={"a": 2}, group="g", delivery_info={"routing_key": "q", "exchange": ""}
    )
    assert task.request.id == "one"
    sig = task.signature_from_request(args=(5,), countdown=3)
    assert (tuple(sig.args), sig.kwargs, sig.options["task_id"]) == ((5,), {"a": 2}, "one")
    assert (sig.options["queue"], sig.options["countdown"], sig.options["group_id"]) == ("q", 3, "g")
    task.pop_request()
    assert task.request.id is None


def test_the_stack_of_requests() -> None:
    app = qcore.celery.app.Celery("x", broker="memory://", set_as_current=False)
    task = app.task(shared=False, name="t.t")(nothing)
    task.push_request(Request(id="a"))
    task.push_request(id="b")
    assert [r.id for r in task.request_stack] == ["a", "b"]
    task.pop_request()
    task.pop_request()
    assert task.request_stack == []


def test_a_task_sends_events_of_its_own(redis_url: str) -> None:
    app = qcore.celery.app.Celery("x", broker=redis_url, set_as_current=False)
    task = app.task(shared=False, name="t.t", bind=True)(own_id)
    inbox = app.broker.subscribe(app.conf.event_exchange, "#")
    try:
        task.push_request(id="one", hostname="w@h")
        task.send_event("task-noticed", colour="red")
        task.pop_request()
        raw = inbox.get(30)
    finally:
        inbox.close()
    (event,) = decode(raw or b"")
    assert (event["uuid"], event["colour"], event["hostname"]) == ("one", "red", "w@h")


def test_an_app_that_nobody_made_is_an_error_if_asked_for() -> None:
    lines = "from qcore import shared_task\n@shared_task\ndef f(): ...\nf.delay()"
    done = subprocess.run(
        [sys.executable, "-c", lines],
        env={**os.environ, "CELERY_TRACE_APP": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "<string>:4 uses the current app, and there is none" in done.stderr


@pytest.mark.parametrize("real", [True, False], ids=["celery", "qcore"])
@pytest.mark.parametrize(
    ("variable", "code", "words"),
    [
        ("C_STRICT_APP", 1, r"RuntimeError: .*(uses|USES) .*(current|CURRENT)"),
        ("C_WARN_APP", 0, r"-- USES CURRENT_APP\n  File \"<string>\", line"),
    ],
)
def test_a_use_of_the_current_app_is_found(real: bool, variable: str, code: int, words: str) -> None:
    program = "from celery import Celery, current_app\napp = Celery('x')\ncurrent_app.main"
    before = "" if real else "from qcore.celery import install; install()\n"

    done = subprocess.run(
        [sys.executable, "-c", before + program],
        env={**os.environ, variable: "1"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == code
    assert re.search(words, done.stderr), done.stderr


# --- loader and logging


def test_the_loader_imports_what_a_worker_imports(app: Any) -> None:
    app.conf.include = ["colorsys"]
    assert [m.__name__ for m in app.loader.import_default_modules() if m.__name__ == "colorsys"] == [
        "colorsys"
    ]
    assert app.loader.import_from_cwd("colorsys").__name__ == "colorsys"
    assert app.loader.now().tzinfo is not None or app.loader.now()


def test_formats_name_the_running_task() -> None:
    from celery.app.log import TaskFormatter as Theirs

    record = logging.LogRecord("x", logging.ERROR, "f", 1, "hello %s", ("you",), None)
    fmt = "[%(task_name)s/%(task_id)s] %(message)s"
    for kind in (Theirs, qcore.celery.logs.TaskFormatter):
        assert kind(fmt, use_color=False).format(copy.copy(record)) == "[???/???] hello you"
    app = qcore.celery.app.Celery("x", broker="memory://", set_as_current=False)
    task = app.task(shared=False, name="t.t")(nothing)
    task.push_request(id="one", task="t.t")
    assert qcore.celery.logs.TaskFormatter(fmt, use_color=False).format(record) == "[t.t/one] hello you"
    task.pop_request()


def test_what_is_printed_can_go_to_a_logger(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    before = sys.stdout, sys.stderr
    try:
        app.log.redirect_stdouts_to_logger(logging.getLogger("printed"), logging.WARNING)
        print("a line")
    finally:
        sys.stdout, sys.stderr = before
    assert [r.getMessage() for r in caplog.records if r.name == "printed"] == ["a line"]


# --- pydantic


class Order(BaseModel):
    item: str
    number: int = 1


class Bill(BaseModel):
    total: int


def test_models_go_in_and_out(app: Any) -> None:
    seen: list[Any] = []

    @app.task(shared=False, name="t.order", pydantic=True)
    def order(order: Order, note: Order | None = None, price: int = 2) -> Bill:
        seen.append((order, note))
        return Bill(total=order.number * price)

    assert order.apply(({"item": "x", "number": 3},)).get() == {"total": 6}
    assert seen == [(Order(item="x", number=3), None)]
    assert order.apply(({"item": "x"},), {"note": {"item": "y"}, "price": 5}).get() == {"total": 5}
    assert seen[-1][1] == Order(item="y")
    with pytest.raises(ValidationError):
        order.apply(({"number": 3},)).get()


def test_models_of_a_caller_are_sent_as_data(app: Any, redis_url: str) -> None:
    import base64

    @app.task(shared=False, name="t.order", pydantic=True, bind=True)
    def order(self: Any, order: Order, note: Order | None = None) -> None: ...

    order.delay(Order(item="x"), note=Order(item="y", number=2))
    (message,) = waiting(redis_url)
    args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert (args, kwargs) == ([{"item": "x", "number": 1}], {"note": {"item": "y", "number": 2}})


# --- runs in this process


def test_an_eager_run_passes_and_returns_the_objects_themselves(app: Any) -> None:
    @app.task(shared=False, name="t.same")
    def same(one: Any) -> Any:
        return one

    @app.task(shared=False, name="t.fails")
    def fails(one: Any) -> None:
        raise one

    thing, error = object(), ValueError({1, 2})
    assert same.apply((thing,)).get() is thing
    assert same.apply(kwargs={"one": {1, 2}}).get() == {1, 2}
    result = fails.apply((error,))
    assert result.state == "FAILURE" and result.result is error
    with pytest.raises(ValueError) as caught:
        result.get()
    assert caught.value is error
    assert "in fails" in result.traceback


def test_an_eager_retry_keeps_the_objects(app: Any) -> None:
    seen: list[Any] = []

    @app.task(shared=False, name="t.again", bind=True, default_retry_delay=0)
    def again(self: Any, thing: Any) -> int:
        seen.append(thing)
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return int(self.request.retries)

    thing = object()
    assert again.apply((thing,)).get() == 2
    assert seen == [thing] * 3


def test_eager_results_are_stored_if_asked_for(app: Any) -> None:
    app.conf.update(task_always_eager=True, task_store_eager_result=True)

    @app.task(shared=False, name="t.adds")
    def adds(x: int, y: int) -> int:
        return x + y

    result = adds.delay(2, 3)
    assert app.AsyncResult(result.id).get(timeout=10) == 5


# --- control


def test_purge_counts_what_it_deletes(app: Any, redis_url: str) -> None:
    for _ in range(3):
        app.send_task("t.x")
    assert app.control.purge() == 3
    assert app.control.discard_all() == 0
    assert not waiting(redis_url)
