"""Queues with exchanges, bindings and arguments, as task_queues gives them."""

from __future__ import annotations

from typing import Any

import pytest
from kombu import Exchange, Queue, binding

from qcore import App
from qcore.app.queues import arguments_of, bind, definitions

MEDIA = Exchange("media", "topic")


@pytest.mark.parametrize(
    ("given", "bindings", "arguments"),
    [
        (Queue("q"), [], {}),
        (Queue("q", MEDIA, routing_key="m.#"), [("media", "topic", "m.#")], {}),
        (Queue("q", MEDIA, "m.#", max_priority=9), [("media", "topic", "m.#")], {"x-max-priority": 9}),
        (Queue("q", queue_arguments={"x-queue-mode": "lazy"}), [], {"x-queue-mode": "lazy"}),
        (
            Queue("q", [binding(MEDIA, routing_key="a"), binding(Exchange("e", "direct"), routing_key="b")]),
            [("e", "direct", "b"), ("media", "topic", "a")],
            {},
        ),
    ],
)
def test_a_queue_of_kombu(given: Queue, bindings: list[Any], arguments: dict[str, Any]) -> None:
    (found,) = definitions([given, "plain"])

    assert (found.name, sorted(found.bindings), found.arguments) == ("q", bindings, arguments)


@pytest.mark.parametrize(
    ("given", "bindings", "arguments"),
    [
        ({}, [], {}),
        ({"exchange": "e"}, [("e", "direct", "q")], {}),
        (
            {"exchange": "e", "exchange_type": "topic", "routing_key": "m.#"},
            [("e", "topic", "m.#")],
            {},
        ),
        ({"exchange": MEDIA, "binding_key": "k"}, [("media", "topic", "k")], {}),
        ({"max_priority": 5, "queue_arguments": {"x": 1}}, [], {"x": 1, "x-max-priority": 5}),
    ],
)
def test_a_queue_of_a_mapping(given: Any, bindings: list[Any], arguments: dict[str, Any]) -> None:
    (found,) = definitions({"q": given})

    assert (list(found.bindings), found.arguments) == (bindings, arguments)


def test_names_alone_say_nothing_more() -> None:
    assert list(definitions(["a", "b"])) == list(definitions(None)) == []
    assert arguments_of([Queue("a"), "b"]) == {}


def test_what_is_sent_to_the_exchange_arrives_in_the_queue(redis_url: str) -> None:
    queues = [Queue("pictures", MEDIA, routing_key="m.#"), Queue("other", MEDIA, routing_key="m.#")]
    app = App("queues", broker=redis_url, set_as_current=False, task_queues=queues)
    bind(app, ["pictures"])

    app.send_task("t", exchange="media", routing_key="m.small")

    assert app.broker.administration.depth("pictures").ready == 1
    assert app.broker.administration.depth("other").ready == 0
    app.close()


def test_a_binding_that_the_broker_cannot_have_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    queues = [Queue("pictures", MEDIA, routing_key="m.#"), Queue("q", Exchange("q"), routing_key="q")]
    app = App("queues", broker="memory://queues", set_as_current=False, task_queues=queues)
    bind(app, ["pictures", "q"])

    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(
        "'pictures' is not bound to the exchange 'media' as task_queues says"
    )
    app.close()
