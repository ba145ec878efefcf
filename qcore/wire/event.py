"""Events: what workers and clients report, in Celery's celeryev format.

In:  event mappings.  Out: one message holding one event or a list of them; and back.
Common fields: type hostname utcoffset pid clock timestamp; ours add `seq`, the number of the event
since the sender started, so that a reader detects gaps. An event stays a plain dict: user code may
send any fields.
"""

from __future__ import annotations

from typing import Any

from qcore.errors import Malformed
from qcore.wire import content, envelope

EXCHANGE = "celeryev"
BATCH_KEY = "task.multi"

Event = dict[str, Any]

#: no real count or size is larger, and no real time (epoch seconds) later
LARGEST, LATEST = 10**15, 1e11


def routing_key(kind: str) -> str:
    """`task-sent` is published under `task.sent`."""
    return kind.replace("-", ".")


def encode(events: Event | list[Event], node: str, key: str, serializer: str = "json") -> bytes:
    """One event, or a list of them, as message bytes; raises for values that it cannot represent."""
    mime, encoding, body = content.dumps(events, serializer)
    return envelope.wrap(
        body,
        content_type=mime,
        content_encoding=encoding,
        exchange=EXCHANGE,
        routing_key=key,
        headers={"hostname": node},
        delivery_mode=1,
    )


def accepted(serializer: str) -> frozenset[str]:
    """What receivers accept with this event_serializer: also JSON, as in Celery, unless events are signed."""
    return frozenset((serializer,)) if serializer == "auth" else frozenset((serializer, "json"))


def decode(raw: bytes) -> list[Event]:
    """The events in one message, malformed ones left out; raises Malformed when none can be read."""
    good, bad = decode_counted(raw)
    if bad and not good:
        raise Malformed("bad_event", "no event in the message has a type, a hostname and a time")
    return good


def decode_counted(raw: bytes, accept: frozenset[str] = content.JSON_ONLY) -> tuple[list[Event], int]:
    """The events in one message, and the number of items that are not events; raises Malformed."""
    found = envelope.decode(raw)
    value = envelope.body_value(found, accept)
    batch = value if isinstance(value, list) else [value]
    good = [e for e in batch if is_event(e)]
    return good, len(batch) - len(good)


def finite_number(value: object) -> float | None:
    """A number from outside; None: not a number, or implausibly large."""
    if (type(value) is int or type(value) is float) and -LARGEST < value < LARGEST:
        return float(value)
    return None


def moment(value: object) -> float | None:
    """A time from outside, in epoch seconds; None: not a time."""
    found = finite_number(value)
    return None if found is None or not 0 <= found < LATEST else found


def is_event(value: Any) -> bool:
    """Whether a decoded value has the fields that every event has."""
    if type(value) is not dict:
        return False
    stamp = value.get("timestamp")
    # By type(), since this runs for every event that a monitor receives.
    return (
        (type(stamp) is float or type(stamp) is int)
        and 0 <= stamp < LATEST
        and type(value.get("type")) is str
        and type(value.get("hostname")) is str
    )
