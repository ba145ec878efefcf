"""task_protocol 1: the message is Celery's, and one of any accepted serializer is understood."""

from __future__ import annotations

import json
from typing import Any

import celery
import pytest

from qcore import App
from qcore.errors import ConfigError, Malformed
from qcore.signals import after_task_publish, before_task_publish
from qcore.wire import content, envelope, task

OPTIONS: dict[str, Any] = {
    "group_id": "g",
    "group_index": 2,
    "expires": "2026-11-22T11:10:45+00:00",
    "retries": 1,
    "time_limit": 9,
    "soft_time_limit": 8,
}


def test_the_message_is_celerys() -> None:
    theirs = celery.Celery("x", broker="memory://", set_as_current=False).amqp.as_task_v1(
        "id", "t", (1, "é"), {"k": None}, eta="2026-11-22T11:10:40+00:00", **OPTIONS
    )
    raw = task.build(
        "t",
        (1, "é"),
        {"k": None},
        task_id="id",
        eta="2026-11-22T11:10:40+00:00",
        headers={"mine": 1},
        protocol=1,
        **OPTIONS,
    )

    found = envelope.decode(raw)
    assert found.headers == {"mine": 1}
    assert found.properties.correlation_id == "id"
    assert envelope.body_value(found) == json.loads(json.dumps(theirs.body))


@pytest.mark.parametrize("serializer", ["json", "yaml", "msgpack", "pickle"])
def test_a_message_is_read_where_its_serializer_is_accepted(serializer: str) -> None:
    raw = task.build(
        *("t", (1,), {"k": 2}),
        task_id="id",
        protocol=1,
        serializer=serializer,
        compression="gzip",
        embed={"callbacks": [{"task": "c"}]},
        **OPTIONS,
    )
    accept = frozenset((serializer,))

    message = task.read(raw, accept)

    assert (message.id, message.task, message.retries, message.group, message.protocol) == (
        "id",
        "t",
        1,
        "g",
        1,
    )
    assert (message.hard_s, message.soft_s, message.headers["group_index"]) == (9, 8, 2)
    assert message.headers["argsrepr"] == "(1,)"
    body = task.read_body(message, accept)
    assert (body.args, body.kwargs, body.embed["callbacks"]) == ([1], {"k": 2}, [{"task": "c"}])
    if serializer != "json":
        with pytest.raises(Malformed, match=rf"\({serializer}\) is not accepted"):
            task.read(raw)


def test_a_chain_is_a_callback_of_a_callback() -> None:
    steps = [{"task": "c", "options": {"link": [{"task": "l"}]}}, {"task": "b", "options": {}}]

    raw = task.build(
        "a", (), {}, task_id="id", protocol=1, embed={"chain": steps, "callbacks": [{"task": "x"}]}
    )

    body = task.read_body(task.read(raw))
    assert body.embed["chain"] is None
    assert body.embed["callbacks"] == [
        {"task": "x"},
        {"task": "b", "options": {"link": [{"task": "c", "options": {"link": [{"task": "l"}]}}]}},
    ]


def test_another_protocol_is_an_error() -> None:
    app = App("x", broker="memory://", task_protocol=3, set_as_current=False)

    with pytest.raises(ConfigError, match="task_protocol is 3; it must be 2 or 1"):
        app.send_task("t")


@pytest.mark.parametrize("protocol", [1, 2])
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_receivers_of_signals_get_every_body(protocol: int, serializer: str) -> None:
    app = App(
        "x", broker="memory://", task_protocol=protocol, task_serializer=serializer, set_as_current=False
    )
    got: list[Any] = []

    def sent(body: Any = None, **_: Any) -> None:
        got.append(body["args"] if protocol == 1 else body[0])

    before_task_publish.connect(sent)
    after_task_publish.connect(sent)
    try:
        app.send_task("t", (1, 2))
    finally:
        before_task_publish.disconnect(sent)
        after_task_publish.disconnect(sent)

    assert [list(args) for args in got] == [[1, 2], [1, 2]]


def test_what_this_process_has_written_is_read_whatever_it_is() -> None:
    assert "anything" in content.ANYTHING
