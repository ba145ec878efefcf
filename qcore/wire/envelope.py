"""The kombu envelope: the JSON object around every message, on Redis, SQLite and in memory.

In:  body bytes, headers, properties.  Out: one JSON object as bytes, and back.
Format: kombu 5.7 virtual transports (`body`, `content-type`, `content-encoding`, `headers`,
`properties`). Drivers with native properties (AMQP) convert messages themselves, so that everything
above the brokers handles one form: these bytes.
"""

from __future__ import annotations

import binascii
from typing import Any

import msgspec

from qcore.base.times import new_id
from qcore.errors import Malformed
from qcore.wire import content
from qcore.wire.compression import decompress


class Properties(msgspec.Struct, omit_defaults=True):
    """The fields of a message that the transport uses."""

    correlation_id: str | None = None
    reply_to: str | None = None
    delivery_mode: int = 0
    delivery_info: dict[str, Any] | None = None
    priority: int | None = None
    body_encoding: str = ""
    delivery_tag: str = ""
    expiration: str | None = None


class Envelope(msgspec.Struct):
    """One message as it is sent; `body` is text, base64 when properties.body_encoding says so."""

    body: str
    content_encoding: str = msgspec.field(name="content-encoding", default="utf-8")
    content_type: str = msgspec.field(name="content-type", default="application/json")
    headers: dict[str, Any] = {}
    properties: Properties = msgspec.field(default_factory=Properties)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Envelope).decode


def encode(envelope: Envelope) -> bytes:
    """The envelope as JSON bytes; raises TypeError for a header that JSON cannot represent."""
    try:
        return _encode(envelope)
    except (OverflowError, TypeError, ValueError):
        return content.to_json(msgspec.to_builtins(envelope, enc_hook=content._typed))


def decode(raw: bytes) -> Envelope:
    """The envelope in `raw`; raises Malformed and nothing else."""
    if len(raw) > content.MAX_WIRE_BYTES:
        raise Malformed("too_large", f"{len(raw)} bytes; at most {content.MAX_WIRE_BYTES} are read")
    try:
        return _decode(raw)
    except msgspec.ValidationError as exc:
        if (found := _with_a_number(raw)) is not None:
            return found
        raise Malformed("bad_envelope", str(exc)[:200], _readable_id(raw)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Malformed("not_json", str(exc)[:200]) from exc
    except RecursionError as exc:
        raise Malformed("too_deep", "the message is nested too deeply") from exc


def wrap(
    body: bytes,
    *,
    exchange: str,
    routing_key: str,
    content_type: str = "application/json",
    content_encoding: str = "utf-8",
    headers: dict[str, Any] | None = None,
    priority: int = 0,
    delivery_mode: int = 2,
    correlation_id: str | None = None,
    reply_to: str | None = None,
    expiration: str | None = None,
    more: dict[str, Any] | None = None,
) -> bytes:
    """Body and headers as one message in envelope form; `more` adds to its properties."""
    raw = encode(
        Envelope(
            body=body,  # type: ignore[arg-type]  # which the encoder writes as base64
            content_encoding=content_encoding,
            content_type=content_type,
            headers=headers or {},
            properties=Properties(
                correlation_id=correlation_id,
                reply_to=reply_to,
                delivery_mode=delivery_mode,
                delivery_info={"exchange": exchange, "routing_key": routing_key},
                priority=priority,
                body_encoding="base64",
                delivery_tag=new_id(),
                expiration=expiration,
            ),
        )
    )
    if not more:
        return raw
    found = content.from_json(raw)
    found["properties"] = {**more, **found["properties"]}
    return content.to_json(found)


def body_bytes(envelope: Envelope) -> bytes:
    """The serialized body after base64 decoding and decompression, within the caps; raises Malformed."""
    encoding = envelope.properties.body_encoding
    if encoding == "base64":
        try:
            raw = msgspec.convert(envelope.body, bytes)
        except msgspec.ValidationError:
            raw = _lenient(envelope.body)
    elif encoding in ("", "utf-8"):
        raw = envelope.body.encode()
    else:
        raise Malformed("body_encoding_unknown", f"body_encoding {encoding!r:.60}")
    mime = envelope.headers.get("compression")
    if mime:
        return decompress(raw, mime) if isinstance(mime, str) else _bad_compression(mime)
    return raw


def _lenient(text: str) -> bytes:
    """The bytes of base64 that msgspec refuses; raises Malformed where Python refuses it as well."""
    try:
        raw = binascii.a2b_base64(text)
        return raw if len(text) == (len(raw) + 2) // 3 * 4 else binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as exc:
        raise Malformed("not_base64", str(exc)[:200]) from exc


def body_value(envelope: Envelope, accept: frozenset[str] | None = None) -> Any:
    """The decoded body; raises Malformed."""
    return content.loads(body_bytes(envelope), envelope.content_type, accept, envelope.content_encoding)


def _bad_compression(mime: Any) -> bytes:
    raise Malformed("compression_unknown", f"compression {mime!r:.80}")


def _with_a_number(raw: bytes) -> Envelope | None:
    """The envelope in `raw` when only its priority is wrong: text, a fraction, anything that clients of other
    languages write and Celery's workers do not look at. None when something else is wrong too."""
    try:
        found = msgspec.json.decode(raw)
        value = found["properties"]["priority"]
        if value is None or type(value) is int:
            return None
        try:
            number = int(float(value))
        except (ValueError, TypeError, OverflowError):
            number = 0
        found["properties"]["priority"] = number
        return msgspec.convert(found, Envelope)
    except (msgspec.MsgspecError, KeyError, TypeError, IndexError, RecursionError, UnicodeDecodeError):
        return None


def _readable_id(raw: bytes) -> str | None:
    """The task id of a malformed envelope, if it can be read at all."""
    try:
        found = msgspec.json.decode(raw)
        task_id = found["headers"]["id"]
    except (msgspec.MsgspecError, KeyError, TypeError, IndexError, RecursionError, UnicodeDecodeError):
        return None
    return task_id if isinstance(task_id, str) and 0 < len(task_id) <= 255 else None
