"""Options of a single call: its own router, class of result, producer and entities to declare."""

from __future__ import annotations

import uuid
from typing import Any

import celery
import celery.result
import kombu
import pytest

from qcore.app import rare_options
from qcore.celery.app import Celery
from qcore.errors import Unroutable
from qcore.tasks.result import AsyncResult
from tests.support.rabbit_server import RabbitServer


class Router:
    def __init__(self) -> None:
        self.asked: list[Any] = []

    def route(
        self, options: Any, name: str, args: Any = (), kwargs: Any = None, task_type: Any = None
    ) -> Any:
        self.asked.append((options, name, tuple(args), kwargs, task_type))
        return options


class OurResult(AsyncResult):  # type: ignore[type-arg]
    pass


class TheirResult(celery.result.AsyncResult):
    pass


@pytest.mark.parametrize(("make", "kind"), [(celery.Celery, TheirResult), (Celery, OurResult)])
def test_a_router_and_a_class_of_one_call(make: Any, kind: type) -> None:
    app = make("x", broker="memory://", backend="cache+memory://", set_as_current=False)
    router = Router()

    sent = app.send_task(
        "x.t",
        (1,),
        {"a": 2},
        router=router,
        result_cls=kind,
        queue="mine",
        countdown=5,
        task_type="the type",
        route_name="x.other",
        task_id="an-id",
    )

    asked = ({"queue": "mine"}, "x.other", (1,), {"a": 2}, "the type")
    assert (type(sent), sent.id) == (kind, "an-id")
    assert [(o if "queue" in o else None, *rest) for o, *rest in router.asked] == [asked]


def test_a_router_has_a_method_route() -> None:
    app = Celery("x", broker="memory://", set_as_current=False)

    with pytest.raises(TypeError, match="has a method route"):
        app.send_task("x.t", router=object())


@pytest.mark.parametrize("make", [celery.Celery, Celery])
def test_a_call_is_published_by_the_given_producer(make: Any) -> None:
    name = uuid.uuid4().hex
    app = make("x", broker="memory://", set_as_current=False)
    with kombu.Connection("memory://") as connection:
        producer = kombu.Producer(connection)
        queue = kombu.Queue(name, kombu.Exchange(name), routing_key=name)
        app.send_task("x.t", publisher=producer, queue=name, declare=[queue])
        message = queue.bind(connection.channel()).get(no_ack=True)

    assert message.headers["task"] == "x.t"


def test_calls_that_are_sent_together_have_no_router(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("WARNING", "qcore")
    monkeypatch.setattr("qcore.base.keywords._said", set())
    app, router = Celery("x", broker="memory://", set_as_current=False), Router()

    for _ in range(2):
        app.send_many("x.t", [(1,), (2,)], router=router)
    rare_options._say_once.cache_clear()
    app.send_task("x.t", declare=[kombu.Queue("q")])

    assert router.asked == []
    assert [record.getMessage() for record in caplog.records] == [
        "the option router has no effect on calls that are sent together",
        "the option declare of a call has no effect on this broker: it has no exchanges",
    ]


@pytest.mark.parametrize("make", [celery.Celery, Celery])
def test_what_a_call_declares_is_there_before_it(rabbit_server: RabbitServer, make: Any) -> None:
    url = rabbit_server.add_vhost(vhost := f"declares-{uuid.uuid4().hex}")
    app = make("x", broker=url, set_as_current=False)
    exchange = kombu.Exchange("media", type="topic")
    queue = kombu.Queue("pictures", exchange, routing_key="m.#", queue_arguments={"x-max-length": 7})
    place: dict[str, Any] = {"exchange": "media", "exchange_type": "topic", "routing_key": "m.1"}
    if make is Celery:
        with pytest.raises(Unroutable):
            app.send_task("x.t", **place)

    app.send_task("x.t", declare=[queue], **place)

    with kombu.Connection(url) as connection:
        held = queue.bind(connection.channel())
        held.queue_declare(passive=True)
        assert held.get(no_ack=True).headers["task"] == "x.t"
    app.close()
    rabbit_server.delete_vhost(vhost)
