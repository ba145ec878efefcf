"""Control requests and replies: kombu's pidbox, as Celery 5.7 writes it.

In:  a method and its arguments, or message bytes.  Out: message bytes, or a Request / Reply.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from qcore.errors import Malformed
from qcore.wire import content, envelope
from qcore.wire import seal as seals
from qcore.wire.patterns import MAX_PATTERN, refuse_costly
from qcore.wire.seal import Seal

EXCHANGE = "celery.pidbox"
REPLY_EXCHANGE = "reply.celery.pidbox"
MAX_DESTINATIONS = 10_000


class Request(msgspec.Struct):
    """One control request; without reply_to no replies are sent."""

    method: str
    arguments: dict[str, Any]
    destination: list[str] | None = None
    pattern: str | None = None
    matcher: str | None = None
    ticket: str | None = None
    reply_exchange: str | None = None
    reply_key: str | None = None
    clock: int = 0
    expires: float = 0.0  # epoch seconds, 0: never
    seal: Seal | None = None  # not verified; control/authorization.py does that
    sealed: bool = False  # the header of the seal is present
    body: bytes = b""  # as received

    def has_expression(self) -> bool:
        """Whether is_for() tries a regular expression, which only those may have tried who may ask at all."""
        return self.destination is None and bool(self.pattern) and self.matcher == "pcre"

    def is_for(self, node: str) -> bool:
        """Whether the worker called `node` should act on this. Raises Malformed for a pattern that could
        run for long; see has_expression()."""
        if self.destination is not None:
            return node in self.destination
        if self.pattern:
            if self.matcher == "pcre":
                _refuse_costly(self.pattern)
                return re.match(self.pattern, node) is not None
            return fnmatch.fnmatchcase(node, self.pattern)
        return True


class Reply(msgspec.Struct):
    """The answer of one node."""

    node: str
    value: Any
    ticket: str | None = None
    clock: int = 0
    instance: str = ""  # distinguishes workers of one name; empty: a Celery worker's


#: from the bytes of a body and the digest of its recipients to the header that seals it
Sealer = Callable[[bytes, str], str]


def accepted(accept_content: Iterable[str]) -> frozenset[str]:
    """What requests and replies may be with this accept_content: also JSON, which `qctl` sends without an
    app, unless messages are signed."""
    found = frozenset(accept_content)
    return found if "auth" in found else found | content.JSON_ONLY


def encode_request(request: Request, sealer: Sealer | None = None, serializer: str = "json") -> bytes:
    """A request as message bytes."""
    body: dict[str, Any] = {
        "method": request.method,
        "arguments": request.arguments,
        "destination": request.destination,
        "pattern": request.pattern,
        "matcher": request.matcher,
    }
    if request.reply_key:
        body["ticket"] = request.ticket
        body["reply_to"] = {
            "exchange": request.reply_exchange or REPLY_EXCHANGE,
            "routing_key": request.reply_key,
        }
    mime, encoding, raw = content.dumps(body, serializer)
    headers: dict[str, Any] = {"clock": request.clock, "expires": request.expires}
    if sealer is not None:
        recipients = seals.digest_of_recipients(request.destination, request.pattern, request.matcher)
        headers[seals.HEADER] = sealer(raw, recipients)
    return _message(raw, EXCHANGE, "", headers, mime, encoding)


def decode_request(raw: bytes, accept: frozenset[str] | None = None) -> Request:
    """The request in `raw`; raises Malformed and nothing else."""
    found = envelope.decode(raw)
    sealed = found.headers.get(seals.HEADER)
    raw_body = envelope.body_bytes(found) if sealed is not None else b""
    body = envelope.body_value(found, accept)
    if not isinstance(body, dict):
        raise Malformed("bad_control", "the request is not an object")
    method, arguments = body.get("method"), body.get("arguments")
    if not isinstance(method, str) or not method:
        raise Malformed("bad_control", f"method {method!r:.60}")
    if arguments is not None and not isinstance(arguments, dict):
        raise Malformed("bad_control", f"arguments {arguments!r:.60}")
    destination = body.get("destination")
    if isinstance(destination, str):
        destination = [destination]
    if destination is not None and (
        not isinstance(destination, list)
        or len(destination) > MAX_DESTINATIONS
        or not all(isinstance(d, str) for d in destination)
    ):
        raise Malformed("bad_control", f"destination {destination!r:.60}")
    pattern, matcher = body.get("pattern"), body.get("matcher")
    if not (pattern is None or (isinstance(pattern, str) and len(pattern) <= MAX_PATTERN)):
        raise Malformed("bad_control", f"pattern {pattern!r:.60}")
    reply_to = body.get("reply_to")
    exchange = key = None
    if isinstance(reply_to, dict):
        exchange, key = reply_to.get("exchange"), reply_to.get("routing_key")
        if not isinstance(exchange, str) or not isinstance(key, str) or not _travels(exchange + key):
            raise Malformed("bad_control", f"reply_to {reply_to!r:.60}")
        # Replies go only to names of the reply namespace: a request must not make a worker
        # publish to a task queue.
        if not exchange.startswith("reply.") or not key or len(key) > 255:
            raise Malformed("bad_control", f"reply_to {reply_to!r:.60} is outside the reply namespace")
    elif reply_to is not None:
        raise Malformed("bad_control", f"reply_to {reply_to!r:.60}")
    ticket = body.get("ticket")
    if isinstance(ticket, str) and not _travels(ticket):
        raise Malformed("bad_control", f"ticket {ticket!r:.60}")
    clock, expires = found.headers.get("clock"), found.headers.get("expires")
    return Request(
        method=method,
        arguments=arguments or {},
        destination=destination,
        pattern=pattern,
        matcher=matcher if isinstance(matcher, str) else None,
        ticket=ticket if isinstance(ticket, str) else None,
        reply_exchange=exchange,
        reply_key=key,
        clock=clock if isinstance(clock, int) and 0 <= clock < 2**63 else 0,
        expires=float(expires) if isinstance(expires, int | float) and abs(expires) < 1e15 else 0.0,
        seal=seals.read(sealed),
        sealed=sealed is not None,
        body=raw_body,
    )


def encode_reply(reply: Reply, exchange: str, routing_key: str, serializer: str = "json") -> bytes:
    """A reply as message bytes; raises EncodeError for a value that the serializer cannot represent."""
    headers = {"ticket": reply.ticket, "clock": reply.clock, "qcore-instance": reply.instance}
    mime, encoding, raw = content.dumps({reply.node: reply.value}, serializer)
    return _message(raw, exchange, routing_key, headers, mime, encoding)


def decode_replies(raw: bytes, accept: frozenset[str] | None = None) -> list[Reply]:
    """The replies in one message (Celery sends one node a message); raises Malformed."""
    found = envelope.decode(raw)
    body = envelope.body_value(found, accept)
    if not isinstance(body, dict):
        raise Malformed("bad_control", "the reply is not an object")
    ticket, clock = found.headers.get("ticket"), found.headers.get("clock")
    instance = found.headers.get("qcore-instance")
    return [
        Reply(
            node,
            value,
            ticket if isinstance(ticket, str) else None,
            clock if isinstance(clock, int) else 0,
            instance if isinstance(instance, str) else "",
        )
        for node, value in body.items()
    ]


def _message(
    body: bytes, exchange: str, routing_key: str, headers: dict[str, Any], mime: str, encoding: str
) -> bytes:
    return envelope.wrap(
        body,
        content_type=mime,
        content_encoding=encoding,
        exchange=exchange,
        routing_key=routing_key,
        headers=headers,
        delivery_mode=1,
    )


def _travels(text: str) -> bool:
    """Whether it has a form in UTF-8."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _refuse_costly(pattern: str) -> None:
    try:
        refuse_costly(pattern)
    except ValueError as exc:
        raise Malformed("bad_control", f"pattern {pattern!r:.60} {exc}") from exc
