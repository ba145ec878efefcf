"""Fast parsing of RabbitMQ's stream: bytes to frames to messages, in place of pyamqp's own parser.

In:  the socket of a pyamqp connection.  Out: its methods, dispatched as pyamqp would; delivered
messages whose headers are JSON data.  A message that cannot be parsed is delivered without properties,
so it is not a task and is quarantined; otherwise it would end the connection, be redelivered, and end
the next one too.
Format: AMQP 0-9-1, sections 2.3.5 (frames), 2.3.5.2 (content), 4.2.5.5 (tables), with the types
RabbitMQ uses for tables.
Before this: connection.py.  After this: messages.py.
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from amqp import Message
from amqp.exceptions import UnexpectedFrame
from amqp.method_framing import _CONTENT_METHODS

from qcore.wire.content import MAX_DEPTH

RECV_BYTES = 65_536
FRAME_END = 206
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
DELIVER = (60, 60)
#: bytes of a frame around its payload
AROUND = 8

_frame = struct.Struct(">BHI").unpack_from
_deliver_head = struct.Struct(">BHIHH").unpack_from
_content_head = struct.Struct(">BHIHHQ").unpack_from
_method = struct.Struct(">HH").unpack_from
_u16 = struct.Struct(">H").unpack_from
_u32 = struct.Struct(">I").unpack_from
_u64 = struct.Struct(">Q").unpack_from

Frame = tuple[int, int, bytes]
#: consumer tag, delivery tag, redelivered, exchange, routing key
Delivered = tuple[str, int, bool, str, str]


class Inbox:
    """Received bytes of one connection that are not consumed yet: by pyamqp, when it waits for an answer,
    or by frame()."""

    def __init__(self, transport: Any) -> None:
        self._receive: Callable[[int], bytes] = transport._quick_recv
        self._transport = transport
        self._data, self._at = b"", 0
        transport._quick_recv = self.recv

    def recv(self, count: int) -> bytes:
        """For pyamqp: at most `count` bytes, waiting as its socket does."""
        if self._at >= len(self._data):
            self._data, self._at = self._receive(RECV_BYTES), 0
        part = self._data[self._at : self._at + count]
        self._at += len(part)
        return part

    def fill(self) -> None:
        """Read from the socket once."""
        more = self._receive(RECV_BYTES)
        if not more:
            raise OSError("the server closed the connection")
        self._data, self._at = self._data[self._at :] + more, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def has_frame(self) -> bool:
        """Whether the next frame has arrived completely."""
        at = self._at
        return len(self._data) - at >= 8 and len(self._data) > at + 7 + _frame(self._data, at)[2]

    @property
    def is_torn(self) -> bool:
        """Whether pyamqp has begun to read a frame, and must continue with it."""
        return bool(self._transport._read_buffer)

    def frame(self) -> Frame | None:
        """The next frame, or None until all of it has arrived."""
        data, at = self._data, self._at
        if len(data) - at < 8:
            return None
        kind, channel, size = _frame(data, at)
        end = at + 7 + size
        if len(data) <= end:
            return None
        if data[end] != FRAME_END:
            raise UnexpectedFrame(f"a frame ends with {data[end]:#x}")
        self._at = end + 1
        return kind, channel, data[at + 7 : end]

    def message(self) -> tuple[int, Delivered, dict[str, Any], bytes] | None:
        """Channel, what basic.deliver says, properties and body of the message that comes next: of its frames
        if one of each kind has arrived. None: frame() tells what has."""
        data, at = self._data, self._at
        try:
            kind, channel, size, *method = _deliver_head(data, at)
            if kind != METHOD or method != [*DELIVER]:
                return None
            head = at + AROUND + size
            kind, same, head_size, _, _, body_size = _content_head(data, head)
            body = head + AROUND + head_size
            if (
                data[head - 1] != FRAME_END
                or data[body - 1] != FRAME_END
                or (kind, same) != (HEADER, channel)
            ):
                return None
            end = body
            if body_size:
                end += AROUND + body_size
                if _frame(data, body) != (BODY, channel, body_size) or data[end - 1] != FRAME_END:
                    return None
        except (struct.error, IndexError):
            return None  # it has not all arrived
        self._at = end
        properties = read_properties(data[head + 7 : body - 1])
        return channel, _delivered(data, at + 11), properties, data[body + 7 : end - 1] if body_size else b""


class Arrival:
    """A delivered message, with as much of pyamqp's Message as its receivers need."""

    __slots__ = ("body", "channel", "delivery_info", "delivery_tag", "properties")

    channel: Any
    delivery_info: dict[str, Any]

    def __init__(self, delivery_tag: int, properties: dict[str, Any], body: bytes) -> None:
        self.delivery_tag, self.properties, self.body = delivery_tag, properties, body


class Reader:
    """pyamqp's `frame_handler`: called with a frame it returns whether that completed something."""

    def __init__(
        self, connection: Any, callback: Callable[[int, tuple[int, int], bytes, Any], object]
    ) -> None:
        self._connection, self._callback = connection, callback
        self._halves: dict[int, Message] = {}  # by channel: messages whose content is not complete yet

    def __call__(self, frame: Frame) -> bool:
        kind, channel, data = frame
        self._connection.bytes_recv += 1
        if kind == HEARTBEAT:
            return False
        message: Any = self._halves.get(channel)
        if (kind == METHOD) != (message is None):
            raise UnexpectedFrame(f"unexpected frame of type {kind}")
        if kind == METHOD:
            signature = _method(data)
            if signature in _CONTENT_METHODS:
                self._halves[channel] = Message(frame_method=signature, frame_args=data)
                return False
            self._callback(channel, signature, data, None)
            return True
        if kind == HEADER:
            message.body_size = _u64(data, 4)[0]
            message.properties = read_properties(data)
            return False if message.body_size else self._complete(channel, message)
        parts = message._pending_chunks
        parts.append(data)
        message.body_received += len(data)
        if message.body_received < message.body_size:
            return False
        message.body, message.ready = parts[0] if len(parts) == 1 else b"".join(parts), True
        return self._complete(channel, message)

    def _complete(self, channel: int, message: Any) -> bool:
        del self._halves[channel]
        if message.frame_method == DELIVER:
            told = _delivered(message.frame_args, 4)
            self._deliver(channel, told, message.properties, message.body or b"")
        else:
            self._callback(channel, message.frame_method, message.frame_args, message)
        return True

    def take(self, inbox: Inbox) -> bool:
        """Deliver the message that comes next, if its frames have all arrived: one of each kind. False: they
        must be read one by one."""
        found = None if self._halves else inbox.message()
        if found is None:
            return False
        self._connection.bytes_recv += 1
        self._deliver(*found)
        return True

    def _deliver(self, channel: int, told: Delivered, properties: dict[str, Any], body: bytes) -> None:
        target = self._connection.channels.get(channel)
        if target is not None and not target.is_closing:
            target._on_basic_deliver(*told, Arrival(told[1], properties, body))


def _delivered(data: bytes, at: int) -> Delivered:
    """The arguments of basic.deliver, which begin at `at`."""
    consumer, at = _short(data, at)
    (tag,), redelivered = _u64(data, at), bool(data[at + 8] & 1)
    exchange, at = _short(data, at + 9)
    return consumer, tag, redelivered, exchange, _short(data, at)[0]


def _short(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    return data[at + 1 : end].decode("utf-8", "surrogateescape"), end


#: the properties of basic, from the highest flag downwards: name, kind
PROPERTIES = (
    (0x8000, "content_type", "s"),
    (0x4000, "content_encoding", "s"),
    (0x2000, "application_headers", "F"),
    (0x1000, "delivery_mode", "B"),
    (0x0800, "priority", "B"),
    (0x0400, "correlation_id", "s"),
    (0x0200, "reply_to", "s"),
    (0x0100, "expiration", "s"),
    (0x0080, "message_id", "s"),
    (0x0040, "timestamp", "T"),
    (0x0020, "type", "s"),
    (0x0010, "user_id", "s"),
    (0x0008, "app_id", "s"),
    (0x0004, "cluster_id", "s"),
)


def read_properties(data: bytes) -> dict[str, Any]:
    """The properties in a content header; none when they cannot be read."""
    found: dict[str, Any] = {}
    flags, at = _u16(data, 12)[0], 14
    try:
        for flag, name, kind in PROPERTIES:
            if not flags & flag:
                continue
            if kind == "s":
                end = at + 1 + data[at]
                found[name], at = data[at + 1 : end].decode(), end
            elif kind == "B":
                found[name], at = data[at], at + 1
            elif kind == "F":
                found[name], at = read_table(data, at)
            else:
                found[name], at = _u64(data, at)[0], at + 8
    except (IndexError, KeyError, struct.error, UnicodeDecodeError, ValueError, RecursionError):
        return {}
    return found


def read_table(data: bytes, at: int, depth: int = 0) -> tuple[dict[str, Any], int]:
    """A table as JSON data, and where it ends. Raises KeyError for an unknown type, and whatever struct and
    indexing raise for truncated bytes."""
    if depth > MAX_DEPTH:
        raise ValueError("the table is nested too deeply")
    end = at + 4 + _u32(data, at)[0]
    at += 4
    if end > len(data):
        raise ValueError("the table is truncated")
    found: dict[str, Any] = {}
    while at < end:
        stop = at + 1 + data[at]
        key, kind, at = data[at + 1 : stop].decode(), data[stop], stop + 1
        if kind == _TEXT:
            stop = at + 4 + _u32(data, at)[0]
            if stop > end:
                raise ValueError("the table is truncated")
            found[key], at = _text(data[at + 4 : stop]), stop
        elif kind == _NOTHING:
            found[key] = None
        else:
            found[key], at = _value(kind, data, at, depth)
    return found, at


_TEXT, _NOTHING = ord("S"), ord("V")
_NUMBERS = {
    ord(kind): struct.Struct(">" + code)
    for kind, code in {
        "b": "b",
        "B": "B",
        "s": "h",
        "U": "h",
        "u": "H",
        "I": "i",
        "i": "I",
        "l": "q",
        "L": "q",
        "f": "f",
        "d": "d",
    }.items()
}


def _value(kind: int, data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """One value of a table or an array, and where it ends."""
    number = _NUMBERS.get(kind)
    if number is not None:
        (value,) = number.unpack_from(data, at)
        plain = value if not isinstance(value, float) or math.isfinite(value) else str(value)
        return plain, at + number.size
    letter = chr(kind)
    if letter == "t":
        return bool(data[at]), at + 1
    if letter == "V":
        return None, at
    if letter == "F":
        return read_table(data, at, depth + 1)
    if letter == "T":
        return datetime.fromtimestamp(_u64(data, at)[0], UTC).replace(tzinfo=None).isoformat(), at + 8
    if letter == "D":
        (digits,) = struct.unpack_from(">i", data, at + 1)
        return str(digits / 10 ** data[at]), at + 5
    if letter not in "SxA":
        raise KeyError(letter)
    end = at + 4 + _u32(data, at)[0]
    at += 4
    if end > len(data):
        raise ValueError("the table is truncated")
    if letter == "A":
        if depth > MAX_DEPTH:
            raise ValueError("the array is nested too deeply")
        items = []
        while at < end:
            item, at = _value(data[at], data, at + 1, depth + 1)
            items.append(item)
        return items, at
    return _text(data[at:end]), end


def _text(data: bytes) -> str:
    """The bytes as text, or as base64 when they are not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return binascii.b2a_base64(data, newline=False).decode()
