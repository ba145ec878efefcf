"""Convert between AMQP messages and messages in envelope form.

In:  envelope bytes.  Out: body, properties and headers for a publish; and back for a delivery.
Before this: broker.py (publish), consumer.py and bus.py (deliveries).
The envelope's delivery_tag is sent as AMQP's message_id, so that the bytes survive the round trip.
Bytes that are not an envelope, or that AMQP cannot encode, are sent whole as application/octet-stream.
"""

from __future__ import annotations

import binascii
import json
from typing import Any

import msgspec

from qcore.base.times import new_id
from qcore.brokers.kombu.topology import DELIVERY_EXCHANGE
from qcore.errors import Malformed
from qcore.wire import content, envelope
from qcore.wire.envelope import Envelope, Properties

OPAQUE = "application/octet-stream"
TRANSIENT, PERSISTENT = 1, 2
# All headers of a message are sent in one frame, and a frame has 128 KiB.
HEADERS_BYTES = 100_000
NAME_BYTES = 255
#: Headers that RabbitMQ adds; a client's x-death makes it drop the message as a cycle.
_BROKERS_OWN = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "qcore-due")
#: Used only inside the driver: the moment before which our consumers do not deliver the message.
DUE_HEADER = "qcore-due"


class Outgoing(msgspec.Struct):
    """One message ready to be published on a channel."""

    body: bytes
    properties: dict[str, Any]  # AMQP names; application_headers among them
    exchange: str
    routing_key: str
    mandatory: bool  # it must reach a queue, else it is an error

    def opaque(self, raw: bytes) -> Outgoing:
        """The same publish with `raw` as its body: for headers that AMQP cannot encode."""
        properties = {k: v for k, v in self.properties.items() if k in ("priority", "delivery_mode")}
        properties["content_type"] = OPAQUE
        properties["message_id"] = new_id()
        again = Outgoing(raw, properties, self.exchange, self.routing_key, self.mandatory)
        due_at = self.properties.get("application_headers", {}).get(DUE_HEADER)
        return again if due_at is None else again.due(due_at)

    def due(self, due_at: float) -> Outgoing:
        """The same publish, not to be delivered before due_at."""
        headers = {**self.properties.get("application_headers", {}), DUE_HEADER: float(due_at)}
        self.properties = {**self.properties, "application_headers": headers}
        return self


def outgoing(
    raw: bytes, exchange: str, routing_key: str, priority: int = 0, mandatory: bool | None = None
) -> Outgoing:
    """The AMQP publish for the envelope in `raw`.

    mandatory None: all but transient messages must reach a queue. Transient ones are replies and
    results, whose reader may have ended.
    """
    plain = Outgoing(
        raw,
        {"content_type": OPAQUE, "message_id": new_id(), "delivery_mode": PERSISTENT, "priority": priority},
        exchange,
        routing_key,
        mandatory is not False,
    )
    try:
        found = envelope.decode(raw)
        body = _body(found)
    except (Malformed, ValueError):
        return plain
    given = found.properties
    if len(raw) - len(body) > HEADERS_BYTES + len(body) // 2:
        return plain
    mode = TRANSIENT if given.delivery_mode == TRANSIENT else PERSISTENT
    properties: dict[str, Any] = {
        "content_type": found.content_type,
        "content_encoding": found.content_encoding,
        "application_headers": _without_brokers_own(found.headers),
        "delivery_mode": mode,
        "priority": min(max(priority or given.priority or 0, 0), 255),
        "message_id": given.delivery_tag or new_id(),
        "correlation_id": given.correlation_id,
        "reply_to": given.reply_to,
        "expiration": given.expiration,
    }
    properties = {k: v for k, v in properties.items() if v is not None}
    required = mode == PERSISTENT if mandatory is None else mandatory
    return Outgoing(body, properties, exchange, routing_key, required)


def _body(found: Envelope) -> bytes:
    encoding = found.properties.body_encoding
    if encoding == "base64":
        return binascii.a2b_base64(found.body.encode(), strict_mode=True)
    if encoding in ("", "utf-8"):
        return found.body.encode()
    raise ValueError(encoding)


def _without_brokers_own(headers: dict[str, Any]) -> dict[str, Any]:
    for key in headers:
        if key.startswith(_BROKERS_OWN):
            return {k: v for k, v in headers.items() if not k.startswith(_BROKERS_OWN)}
    return headers


class Incoming(msgspec.Struct):
    """A received message, in envelope form."""

    raw: bytes
    redelivered: bool
    deliveries: int
    tag: Any  # the delivery tag, with which the channel settles it
    due_at: float = 0.0  # not to be delivered before; 0: at once


def incoming(message: Any, queue: str, native: bool) -> Incoming:
    """A message from pyamqp, or from one of kombu's emulations; never raises, whatever its content."""
    if native:
        properties: dict[str, Any] = message.properties
        headers: Any = properties.get("application_headers") or {}
        kind, coding = properties.get("content_type"), properties.get("content_encoding")
    else:
        properties, headers = message.properties or {}, message.headers or {}
        kind, coding = message.content_type, message.content_encoding
        if "compression" in headers and not message.errors:
            headers = {k: v for k, v in headers.items() if k != "compression"}  # kombu has decompressed it
    info = message.delivery_info or {}
    redelivered = bool(info.get("redelivered") or (not native and message._raw.get("redelivered")))
    counted = headers.get("x-delivery-count")
    deliveries = counted + 1 if isinstance(counted, int) and counted >= 0 else 1 + redelivered
    body = message.body
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    body = bytes(body or b"")
    if kind == OPAQUE:
        raw = body
    else:
        exchange, routing_key = info.get("exchange") or "", info.get("routing_key") or ""
        if exchange == DELIVERY_EXCHANGE:
            # It was delayed; the exchange and key of the delay do not name its own queue.
            exchange, routing_key = "", queue
        if not native and not content._is_plain(headers):  # natively they are read as JSON data
            headers = _plain(headers)
        raw = _enveloped(body, kind, coding, headers, properties, exchange, routing_key)
    due_at = headers.get(DUE_HEADER)
    return Incoming(
        raw,
        redelivered,
        deliveries,
        message.delivery_tag,
        float(due_at) if isinstance(due_at, int | float) else 0.0,
    )


def _enveloped(
    body: bytes,
    kind: Any,
    coding: Any,
    headers: dict[str, Any],
    properties: dict[str, Any],
    exchange: str,
    routing_key: str,
) -> bytes:
    headers = _without_brokers_own(headers)
    priority, mode = properties.get("priority"), properties.get("delivery_mode")
    found = Envelope(
        body=binascii.b2a_base64(body, newline=False).decode(),
        content_encoding=_text(coding) or "utf-8",
        content_type=_text(kind) or "",
        headers=headers,
        properties=Properties(
            correlation_id=_text(properties.get("correlation_id")),
            reply_to=_text(properties.get("reply_to")),
            delivery_mode=mode if isinstance(mode, int) else PERSISTENT,
            delivery_info={"exchange": exchange, "routing_key": routing_key},
            priority=priority if isinstance(priority, int) else 0,
            body_encoding="base64",
            delivery_tag=_text(properties.get("message_id")) or new_id(),
            expiration=_text(properties.get("expiration")),
        ),
    )
    try:
        return envelope.encode(found)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        # Text that is not Unicode: JSON can encode it, but no reader accepts it, which is intended.
        return json.dumps({"body": found.body, "unreadable": repr(headers)[:4096]}).encode()


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _plain(value: Any, depth: int = 0) -> Any:
    """An AMQP table or one of its values as JSON data."""
    if depth > content.MAX_DEPTH:
        return None
    if isinstance(value, dict):
        return {k if isinstance(k, str) else repr(k): _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, depth + 1) for v in value]
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return binascii.b2a_base64(data, newline=False).decode()
    if content._is_plain(value):
        return value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)
