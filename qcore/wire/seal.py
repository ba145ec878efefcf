"""The seal of a control request: signer, recipients, validity, and integrity.

In:  a request's bytes and a secret.  Out: the text of the header `qcore-signature`, and back.
Format (ours; Celery ignores the header): eight fields with ';' between them: `1`, key id, nonce, issued at,
valid until (epoch seconds), digest of the recipients, digest of the body, HMAC-SHA256 of all before it.
The body holds method, arguments, destination, pattern, ticket and reply_to, and is sealed as the bytes
that are sent. The recipients have their own digest, so that a refusal can report a request for others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

HEADER = "qcore-signature"
VERSION = "1"
MOST_CHARACTERS = 600


class Seal(msgspec.Struct, frozen=True):
    """The content of the header; unverified until is_of() returns True."""

    key: str
    nonce: str
    issued_at: float
    valid_until: float
    recipients: str
    body: str
    mac: str

    def text(self) -> str:
        return f"{self._sealed()};{self.mac}"

    def _sealed(self) -> str:
        times = (repr(self.issued_at), repr(self.valid_until))
        return ";".join((VERSION, self.key, self.nonce, *times, self.recipients, self.body))

    def is_of(self, secret: bytes) -> bool:
        """Whether this header was written with the secret."""
        return _is_same(self.mac, _mac(secret, self._sealed()))

    def is_for(self, destination: Sequence[str] | None, pattern: str | None, matcher: str | None) -> bool:
        return _is_same(self.recipients, digest_of_recipients(destination, pattern, matcher))

    def fits(self, body: bytes) -> bool:
        return _is_same(self.body, _digest(body))


def make(
    key: str, secret: bytes, nonce: str, issued_at: float, valid_until: float, recipients: str, body: bytes
) -> Seal:
    """A seal for a body; recipients is a digest_of_recipients()."""
    bare = Seal(key, nonce, issued_at, valid_until, recipients, _digest(body), "")
    return msgspec.structs.replace(bare, mac=_mac(secret, bare._sealed()))


def read(text: object) -> Seal | None:
    """The seal in a header; None when the header has another format."""
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS or not text.isascii():
        return None
    fields = text.split(";")
    if len(fields) != 8 or fields[0] != VERSION:
        return None
    try:
        issued_at, valid_until = float(fields[3]), float(fields[4])
    except ValueError:
        return None
    if not math.isfinite(issued_at) or not math.isfinite(valid_until):
        return None
    return Seal(fields[1], fields[2], issued_at, valid_until, fields[5], fields[6], fields[7])


def digest_of_recipients(destination: Sequence[str] | None, pattern: str | None, matcher: str | None) -> str:
    recipients = [None if destination is None else sorted(destination), pattern, matcher if pattern else None]
    return _digest(msgspec.json.encode(recipients))


# Only workers with keys load OpenSSL: 3.7 MB.


def _digest(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _mac(secret: bytes, text: str) -> str:
    import hmac

    return hmac.new(secret, text.encode(), "sha256").hexdigest()


def _is_same(one: str, other: str) -> bool:
    import hmac

    return hmac.compare_digest(one, other)
