"""Deliveries of RabbitMQ: read in one pass or frame by frame, however the bytes arrive, they are the same."""

from __future__ import annotations

import struct
import types
from typing import Any

import pytest
from amqp.exceptions import UnexpectedFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore.brokers.kombu.frames import BODY, FRAME_END, HEADER, HEARTBEAT, METHOD, Inbox, Reader

properties = st.sampled_from([b"\x00\x00", b"\x80\x00\x04text", b"\x10\x00\x02", b"\x20\x00\xff\xff\xff\xff"])


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes((FRAME_END,))


def short(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


def delivered(
    channel: int, tag: int, again: bool, key: str, listed: bytes, body: bytes, most: int
) -> list[bytes]:
    """The frames of one delivery; most: bytes of a frame of its body."""
    method = (
        struct.pack(">HH", 60, 60) + short("me") + struct.pack(">QB", tag, again) + short("x") + short(key)
    )
    head = struct.pack(">HHQ", 60, 0, len(body)) + listed
    parts = [frame(BODY, channel, body[at : at + most]) for at in range(0, len(body), most)]
    return [frame(METHOD, channel, method), frame(HEADER, channel, head), *parts]


messages = st.lists(
    st.builds(
        delivered,
        st.sampled_from([1, 2]),
        st.integers(1, 2**64 - 1),
        st.booleans(),
        st.text("key", max_size=3),
        properties,
        st.binary(max_size=30),
        st.sampled_from([7, 100]),
    )
    | st.just([frame(HEARTBEAT, 0, b"")]),
    max_size=6,
)


class Connection:
    """pyamqp's, as far as a reader needs it; received: what the channels get."""

    def __init__(self) -> None:
        self.bytes_recv, self.received = 0, list[tuple[Any, ...]]()
        self.channels = {
            number: types.SimpleNamespace(is_closing=False, _on_basic_deliver=self._receiver(number))
            for number in (1, 2)
        }

    def _receiver(self, number: int) -> Any:
        def receive(*told: Any) -> None:
            *words, message = told
            assert message.delivery_tag == words[1]
            self.received.append((number, *words, message.properties, message.body))

        return receive


def read(data: bytes, pieces: list[int], at_once: bool) -> list[tuple[Any, ...]]:
    """What the channels get; pieces: how many bytes arrive at a time."""
    parts, at = list[bytes](), 0
    for size in [*pieces, len(data)]:
        parts.append(data[at : at + size])
        at += size
    arriving = iter(filter(None, parts))
    transport = types.SimpleNamespace(_quick_recv=lambda _: next(arriving), _read_buffer=b"")
    connection, inbox = Connection(), Inbox(transport)
    reader = Reader(connection, lambda *told: None)
    while True:
        if at_once and reader.take(inbox):
            continue
        if (one := inbox.frame()) is not None:
            reader(one)
            continue
        try:
            inbox.fill()
        except StopIteration:
            return connection.received


@settings(max_examples=300, deadline=None)
@given(messages, st.lists(st.integers(1, 80), max_size=8))
def test_both_ways_of_reading_find_the_same(written: list[list[bytes]], pieces: list[int]) -> None:
    data = b"".join(part for parts in written for part in parts)

    one_by_one = read(data, [], at_once=False)

    assert len(one_by_one) == sum(len(parts) > 1 for parts in written)
    assert read(data, pieces, at_once=True) == one_by_one


@pytest.mark.parametrize("at", [-1, -13, -35])
def test_a_frame_that_does_not_end_is_an_error(at: int) -> None:
    data = bytearray(b"".join(delivered(1, 1, False, "k", b"\x00\x00", b"body", 100)))
    assert data[at] == FRAME_END
    data[at] = 0

    with pytest.raises(UnexpectedFrame, match="a frame ends with 0x0"):
        read(bytes(data), [], at_once=True)
