"""Events, control requests and replies in the serializers of the settings."""

from __future__ import annotations

from typing import Any

import pytest

from qcore import App
from qcore.errors import Malformed
from qcore.events.receiver import listen
from qcore.wire import control, envelope, event
from tests.support.waiting import wait_for

EVENT: dict[str, Any] = {"type": "task-sent", "hostname": "h", "timestamp": 1.0, "uuid": "u"}


@pytest.mark.parametrize("serializer", ["json", "yaml", "msgpack", "pickle"])
def test_events_have_the_event_serializer(serializer: str) -> None:
    raw = event.encode(EVENT, "h", "task.sent", serializer)

    assert event.decode_counted(raw, event.accepted(serializer)) == ([EVENT], 0)
    assert event.decode_counted(event.encode(EVENT, "h", "k"), event.accepted(serializer)) == ([EVENT], 0)
    if serializer != "json":
        with pytest.raises(Malformed, match="not accepted"):
            event.decode(raw)


def test_where_events_or_messages_are_signed_unsigned_ones_are_refused() -> None:
    assert event.accepted("auth") == {"auth"}
    assert control.accepted(["auth"]) == {"auth"}
    assert control.accepted(["yaml"]) == {"yaml", "json"}


def test_the_task_sent_event_of_a_pickled_message_arrives_in_yaml(redis_url: str) -> None:
    app = App(
        "x",
        broker=redis_url,
        task_serializer="pickle",
        event_serializer="yaml",
        task_send_sent_event=True,
        set_as_current=False,
    )
    got: list[Any] = []
    with listen(app.broker, serializer="yaml") as batches:
        app.send_task("t", (1,))
        wait_for(lambda: got.extend(next(batches)) or got, 20, "the event")

    assert (got[0]["type"], got[0]["args"]) == ("task-sent", "(1,)")
    app.close()


@pytest.mark.parametrize("serializer", ["yaml", "msgpack", "pickle"])
def test_control_requests_and_replies_have_the_serializer_of_tasks(serializer: str) -> None:
    accept = control.accepted([serializer])
    request = control.Request("ping", {"a": [1]}, destination=["w@h"], reply_key="k", ticket="t")
    bodies: list[bytes] = []

    def seal(body: bytes, _: str) -> str:
        bodies.append(body)
        return "seal"

    raw = control.encode_request(request, seal, serializer)
    answer = control.encode_reply(control.Reply("w@h", {"ok": "pong"}, "t"), "reply.x", "k", serializer)

    read = control.decode_request(raw, accept)
    assert (read.method, read.arguments, read.destination, read.ticket) == ("ping", {"a": [1]}, ["w@h"], "t")
    assert bodies == [read.body] == [envelope.body_bytes(envelope.decode(raw))]
    assert [r.value for r in control.decode_replies(answer, accept)] == [{"ok": "pong"}]
    with pytest.raises(Malformed, match="not accepted"):
        control.decode_request(raw)
