"""The frames that are written to RabbitMQ, against those of pyamqp."""

from __future__ import annotations

import types
from typing import Any

import pytest
from amqp import Message
from amqp.channel import Channel
from amqp.method_framing import frame_writer as pyamqps_writer
from amqp.serialization import dumps
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore.brokers.kombu import frame_writer

FRAME_MAX = 4096


class Written:
    """A connection of pyamqp, as far as a writer needs one."""

    def __init__(self) -> None:
        self.data, self.writes, self.bytes_sent, self.frame_max = b"", 0, 0, FRAME_MAX
        self.transport = types.SimpleNamespace(write=self._write)

    def _write(self, data: Any) -> None:
        self.data += bytes(data)
        self.writes += 1


def pyamqps(
    method: tuple[int, int], kinds: str, values: tuple[object, ...], content: Message | None = None
) -> bytes:
    written = Written()
    pyamqps_writer(written, written.transport)(1, 7, method, dumps(kinds, values), content)
    return written.data


texts = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
properties = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("content_type", "content_encoding", "correlation_id", "reply_to"), texts),
        **dict.fromkeys(("expiration", "message_id"), texts),
        "application_headers": st.dictionaries(texts, values, max_size=6),
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 255),
    },
)


@settings(max_examples=300, deadline=None)
@given(properties, st.binary(max_size=40) | st.just(b"x" * 10_000), texts, texts, st.booleans())
def test_a_publish_is_what_pyamqp_writes(
    given_: dict[str, Any], body: bytes, exchange: str, key: str, mandatory: bool
) -> None:
    argued = Channel._basic_publish.__defaults__
    assert argued is not None
    kinds = argued[-1]
    ours = frame_writer.publish(7, exchange, key, mandatory, given_, body, FRAME_MAX)

    message = Message(body, **given_)
    assert ours == pyamqps((60, 40), kinds, (0, exchange, key, mandatory, False), message)


@pytest.mark.parametrize("multiple", [True, False])
def test_acknowledgements_are_what_pyamqp_writes(multiple: bool) -> None:
    assert frame_writer.ack(7, 2**40, multiple) == pyamqps((60, 80), "Lb", (2**40, multiple))
    assert frame_writer.requeue(7, 5) == pyamqps((60, 90), "Lb", (5, True))


@pytest.mark.parametrize(
    "bad",
    [
        {"application_headers": {"x" * 256: 1}},
        {"application_headers": {"x": 2**63}},
        {"application_headers": {"x": b"bytes"}},
        {"application_headers": {"x": "\ud800"}},
        {"application_headers": {"x": "y" * FRAME_MAX}},
        {"correlation_id": "x" * 256},
        {"priority": 256},
        {"priority": -1},
        {"timestamp": 3},
    ],
)
def test_what_amqp_cannot_represent_is_an_error(bad: dict[str, Any]) -> None:
    with pytest.raises(frame_writer.CANNOT_SPELL):
        frame_writer.publish(1, "", "q", True, bad, b"", FRAME_MAX)


def test_many_frames_are_few_writes_and_the_answers_are_read_between_them() -> None:
    connection, between = Written(), list[int]()
    frames = [bytes([n]) * 1000 for n in range(200)]

    frame_writer.write(connection, frames, lambda: between.append(len(connection.data)))
    frame_writer.write(connection, [])

    assert connection.data == b"".join(frames) and connection.bytes_sent == 1
    assert connection.writes == 4 and between == [66_000, 132_000, 198_000]
