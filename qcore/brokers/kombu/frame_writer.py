"""Fast writing of RabbitMQ's stream: publishes and acknowledgements as bytes, in place of pyamqp's own
writer, which writes each message on its own.

In:  properties with JSON data as headers, bodies, delivery tags.  Out: frames, the same bytes that pyamqp
writes (tests/qcore/brokers/test_frame_writer.py compares them).
Format: AMQP 0-9-1, sections 2.3.5 (frames), 2.3.5.2 (content), 4.2.5.5 (tables), with the types that pyamqp
uses for tables.
Before this: publisher.py and consumer.py.  After this: frames.py reads the answers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

from qcore.brokers.kombu.frames import AROUND, BODY, FRAME_END, HEADER, METHOD, PROPERTIES

#: what writing raises for data that AMQP cannot represent
CANNOT_SPELL = (struct.error, UnicodeError, OverflowError, TypeError, ValueError)
#: write() gathers frames until they have this many bytes
WRITE_BYTES = 65_536

_frame_head = struct.Struct(">BHI").pack
_content_head = struct.Struct(">HHQH").pack
_publish_head = struct.Struct(">HHH").pack
_acknowledge = struct.Struct(">BHIHHQBB").pack
_size = struct.Struct(">I").pack
_text_head = struct.Struct(">cI").pack
_small = struct.Struct(">ci").pack
_large = struct.Struct(">cq").pack
_real = struct.Struct(">cd").pack
_END = bytes((FRAME_END,))
_BASIC = 60


def publish(
    channel: int,
    exchange: str,
    routing_key: str,
    mandatory: bool,
    properties: dict[str, Any],
    body: bytes,
    most: int,
) -> bytes:
    """The frames of one basic.publish; most: the largest frame of the connection, in bytes. Raises one of
    CANNOT_SPELL."""
    head = _publish_head(_BASIC, 40, 0)
    method = b"".join((head, _short(exchange), _short(routing_key), b"\x01" if mandatory else b"\x00"))
    flags, parts = 0, list[bytes]()
    for flag, name, kind in PROPERTIES:
        value = properties.get(name)
        if value is None:
            continue
        flags |= flag
        if kind == "s":
            parts.append(_short(value))
        elif kind == "B":
            parts.append(bytes((value,)))
        elif kind == "F":
            parts.append(_table(value))
        else:
            raise ValueError(f"qcore writes no property '{name}'")
    listed = b"".join(parts)
    if len(listed) + 14 + AROUND > most:
        raise ValueError("the properties do not fit into a frame")
    head = _content_head(_BASIC, 0, len(body), flags) + listed
    frames = [_frame_head(METHOD, channel, len(method)), method, _END]
    frames += (_frame_head(HEADER, channel, len(head)), head, _END)
    for at in range(0, len(body), most - AROUND):
        part = body[at : at + most - AROUND]
        frames += (_frame_head(BODY, channel, len(part)), part, _END)
    return b"".join(frames)


def ack(channel: int, tag: int, multiple: bool = False) -> bytes:
    """One basic.ack; multiple: of all deliveries up to this tag."""
    return _acknowledge(METHOD, channel, 13, _BASIC, 80, tag, multiple, FRAME_END)


def requeue(channel: int, tag: int) -> bytes:
    """One basic.reject that returns the delivery to its queue."""
    return _acknowledge(METHOD, channel, 13, _BASIC, 90, tag, True, FRAME_END)


def write(connection: Any, frames: Iterable[bytes], between: Callable[[], None] | None = None) -> None:
    """Write frames to the socket of a pyamqp connection, few writes for many frames. between: called after
    each of them but the last, so that the answers are read while much is written."""
    gathered, size = list[bytes](), 0
    for frame in frames:
        if size >= WRITE_BYTES:
            connection.transport.write(b"".join(gathered))
            gathered, size = [], 0
            if between is not None:
                between()
        gathered.append(frame)
        size += len(frame)
    if gathered:
        connection.transport.write(b"".join(gathered))
        connection.bytes_sent += 1  # pyamqp counts writes: a heartbeat is due when there was none


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes((len(data),)) + data


def _table(table: dict[str, Any]) -> bytes:
    parts = list[bytes]()
    for key, value in table.items():
        parts += (_short(key), _value(value))
    data = b"".join(parts)
    return _size(len(data)) + data


def _value(value: Any) -> bytes:
    kind = type(value)
    if kind is str:
        data: bytes = value.encode()
        return _text_head(b"S", len(data)) + data
    if value is None:
        return b"V"
    if kind is bool:
        return b"t\x01" if value else b"t\x00"
    if kind is int:
        return _small(b"I", value) if -2147483647 <= value <= 2147483647 else _large(b"L", value)
    if kind is float:
        return _real(b"d", value)
    if kind is dict:
        return b"F" + _table(value)
    if kind is list or kind is tuple:
        data = b"".join([_value(item) for item in value])
        return b"A" + _size(len(data)) + data
    raise TypeError(f"AMQP has no type for {kind.__name__}")
