"""A failed task as it is stored: the facts of its last run, and the message itself.

In:  facts of a run that failed for good.  Out: two pieces of MessagePack, so that a list of thousands is
read without tracebacks and messages; and the message of a retry.
Before this: worker/settling/failed_tasks.py.  After this: brokers/X; qctl reads them.
"""

from __future__ import annotations

import msgspec

from qcore.base.times import new_id
from qcore.errors import Malformed
from qcore.wire import envelope

#: the header of a retried task that contains the id of the failed task
RETRY_OF = "qcore_retry_of"

TEXT_BYTES = 1024
TRACEBACK_BYTES = 16_384


class FailedTask(msgspec.Struct, omit_defaults=True):
    """A task that failed for good. Fields are only added within a version of the stores."""

    task_id: str
    name: str
    queue: str  # from which it was claimed
    worker: str = ""
    exc_type: str = ""  # with its module, except for built-in types
    exc_message: str = ""
    args: str = ""  # as in the message: repr, possibly truncated
    kwargs: str = ""
    tries: int = 1
    failed_at: float = 0.0  # epoch seconds, the broker's clock once it is stored
    runtime_s: float = 0.0  # of the last run
    root_id: str = ""
    retry_of: str = ""  # the failed task that this one retries
    priority: int = 0
    ttl_s: float | None = None  # None: never expires
    retried_as: str = ""  # the task that retries this one; set by the store
    traceback: str = ""  # this and raw are filled only on request
    raw: bytes = b""  # the message, byte for byte

    @property
    def exception(self) -> str:
        """Type and message as one text."""
        return f"{self.exc_type}: {self.exc_message}" if self.exc_message else self.exc_type


_encode = msgspec.msgpack.Encoder().encode
_facts = msgspec.msgpack.Decoder(FailedTask).decode
_detail = msgspec.msgpack.Decoder(tuple[str, bytes]).decode


def split(failure: FailedTask) -> tuple[bytes, bytes]:
    """The facts, and separately the traceback and message."""
    facts = msgspec.structs.replace(failure, traceback="", raw=b"", retried_as="")
    return _encode(facts), _encode((failure.traceback, failure.raw))


def join(facts: bytes, detail: bytes, failed_at: float | None, retried_as: str) -> FailedTask:
    """The failure that split() took apart; detail may be empty, failed_at None keeps it. Raises Malformed."""
    try:
        found = _facts(facts)
        found.retried_as = retried_as
        if failed_at is not None:
            found.failed_at = failed_at
        if detail:
            found.traceback, found.raw = _detail(detail)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise Malformed("bad_failure", str(exc)[:200]) from exc
    return found


def short(text: str, most: int = TEXT_BYTES) -> str:
    """At most `most` bytes of UTF-8; characters that UTF-8 cannot encode are replaced."""
    raw = text.encode("utf-8", "backslashreplace")
    return (raw if len(raw) <= most else raw[: most - 3]).decode("utf-8", "ignore") + (
        "..." if len(raw) > most else ""
    )


def short_end(text: str, most: int = TRACEBACK_BYTES) -> str:
    """As short(), but keeps the end, which is the important part of a traceback."""
    raw = text.encode("utf-8", "backslashreplace")
    return raw.decode() if len(raw) <= most else "..." + raw[3 - most :].decode("utf-8", "ignore")


def exception_names(exc: BaseException) -> tuple[str, str]:
    """Type and message of an exception, shortened."""
    kind = type(exc)
    plain = kind.__module__ in ("builtins", "qcore.errors")
    name = kind.__qualname__ if plain else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(exc)
    except Exception as own:  # user classes: their str may raise anything
        message = f"<no text: {type(own).__name__}>"
    return short(name, 255), short(message)


def tried_again(raw: bytes, task_id: str) -> bytes:
    """The message `raw` as the new task `task_id`: the body byte for byte, with changes only to these
    headers: id, number of retries, expiry, and the reference to the failed task. Raises Malformed."""
    found = envelope.decode(raw)
    old = found.headers.get("id")
    if not isinstance(old, str):
        raise Malformed("protocol_1", "the id is inside the body, which is not changed")
    headers = {**found.headers, "id": task_id, "retries": 0, RETRY_OF: old}
    headers.pop("redelivered", None)
    if headers.get("expires") is not None:
        headers["expires"] = None
    found.headers = headers
    properties = found.properties
    if properties.correlation_id in (old, None):
        properties.correlation_id = task_id
    properties.delivery_tag, properties.expiration = new_id(), None
    return envelope.encode(found)
