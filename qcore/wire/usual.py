"""The usual message, read in one pass: an envelope with a head of the usual types, and a body of JSON in
base64 that nothing follows.

In:  message bytes.  Out: the head, and the arguments of the call. What is not usual is None or an error of
msgspec; task.py then reads it the long way, which finds the same in it, or the reason why it is malformed.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from qcore.errors import Malformed
from qcore.wire import registered
from qcore.wire.content import JSON_ONLY, AsRead, from_json
from qcore.wire.envelope import Properties


class Head(msgspec.Struct):
    """The headers that decide how a message is handled, with their usual types."""

    id: str
    task: str
    eta: None = None
    expires: None = None
    retries: int | None = 0
    timelimit: tuple[None, None] | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    shadow: str | None = None
    ignore_result: bool | None = None
    stamps: dict[str, Any] | None = None
    stamped_headers: list[Any] | None = None
    compression: None = None
    errback_of: None = None


class Usual(msgspec.Struct):
    """An envelope decoded for its head only; everything that fits here fits Envelope as well."""

    headers: Head
    body: bytes  # from base64
    content_encoding: str = msgspec.field(name="content-encoding", default="utf-8")
    content_type: str = msgspec.field(name="content-type", default="application/json")
    properties: Properties = msgspec.field(default_factory=Properties)


class _NoLinks(msgspec.Struct, forbid_unknown_fields=True):
    """The third part of a body that nothing follows."""

    callbacks: None = None
    errbacks: None = None
    chain: None = None
    chord: None = None


decode = msgspec.json.Decoder(Usual).decode
_call = msgspec.json.Decoder(tuple[list[Any], dict[str, Any], _NoLinks]).decode


class _Links(msgspec.Struct, forbid_unknown_fields=True):
    """The third part of a body, without a look at the steps of its chain."""

    callbacks: Any = None
    errbacks: Any = None
    chain: list[msgspec.Raw] | None = None
    chord: Any = None


_linked_call = msgspec.json.Decoder(tuple[list[Any], dict[str, Any], _Links]).decode


def arguments(
    found: Usual, raw: bytes, accept: frozenset[str] | None
) -> tuple[list[Any], dict[str, Any]] | None:
    """args and kwargs in the body of `found`, whose bytes are `raw`; None when it takes the long way."""
    if found.properties.body_encoding != "base64" or not _is_json(found.content_type, accept):
        return None
    try:
        if not raw.isascii():
            raw.decode()  # decode() has not looked at the headers that it does not need
        if b"__type__" in found.body:
            return None
        args, kwargs, _ = _call(found.body)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return args, kwargs


def linked(
    body: bytes, content_type: str, accept: frozenset[str] | None
) -> tuple[list[Any], dict[str, Any], dict[str, Any]] | None:
    """args, kwargs and links of a body; of the steps of a chain only the next one is decoded. None when it
    takes the long way."""
    if not _is_json(content_type, accept) or b"__type__" in body:
        return None
    try:
        if not body.isascii():
            body.decode()
        args, kwargs, links = _linked_call(body)
        chain: list[Any] | None = links.chain
        if chain:
            chain = AsRead([*chain[:-1], from_json(bytes(chain[-1]))])
    except (ValueError, RecursionError, Malformed):
        return None
    embed = {"callbacks": links.callbacks, "errbacks": links.errbacks, "chain": chain, "chord": links.chord}
    return args, kwargs, embed


def _is_json(content_type: str, accept: frozenset[str] | None) -> bool:
    """Whether a body is JSON that is accepted, and the project has no decoder of its own for it."""
    if content_type != "application/json":
        return False
    allowed = JSON_ONLY if accept is None else accept
    if "json" not in allowed and "application/json" not in allowed:
        return False
    return "kombu.serialization" not in sys.modules or registered.reader("application/json", True) is None
