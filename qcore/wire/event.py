"""Events: what workers and clients say happened, in Celery's celeryev format.

In:  event mappings.  Out: one message holding one event or a list of them; and back.
Common fields: type hostname utcoffset pid clock timestamp; ours add `seq`, the number of the event
since the sender started, so that a reader sees gaps. An event stays a plain dict: user code may
send any fields it likes.
"""

from __future__ import annotations

from typing import Any

from qcore.errors import Malformed
from qcore.wire import content, envelope

EXCHANGE = "celeryev"
BATCH_KEY = "task.multi"

Event = dict[str, Any]

#: no count or size of anybody's is larger, and no time (epoch seconds) later
LARGEST, LATEST = 10**15, 1e11


def routing_key(kind: str) -> str:
    """`task-sent` is published under `task.sent`."""
    return kind.replace("-", ".")


def encode(events: Event | list[Event], node: str, key: str) -> bytes:
    """One event, or a list of them, as message bytes; values with no JSON form are an error."""
    return envelope.wrap(
        content.to_json(events),
        exchange=EXCHANGE,
        routing_key=key,
        headers={"hostname": node},
        delivery_mode=1,
    )


def decode(raw: bytes) -> list[Event]:
    """The events in one message, malformed ones left out; raises Malformed when none can be read."""
    good, bad = decode_counted(raw)
    if bad and not good:
        raise Malformed("bad_event", "no event in the message has a type, a hostname and a time")
    return good


def decode_counted(raw: bytes) -> tuple[list[Event], int]:
    """The events in one message, and how many things in it are none; raises Malformed."""
    found = envelope.decode(raw)
    value = envelope.body_value(found)
    batch = value if isinstance(value, list) else [value]
    good = [e for e in batch if is_event(e)]
    return good, len(batch) - len(good)


def sane(value: object) -> float | None:
    """A number that somebody else wrote; None: it is none, or larger than anything that is meant."""
    if (type(value) is int or type(value) is float) and -LARGEST < value < LARGEST:
        return float(value)
    return None


def moment(value: object) -> float | None:
    """A time that somebody else wrote, in epoch seconds; None: it is none."""
    found = sane(value)
    return None if found is None or not 0 <= found < LATEST else found


def is_event(value: Any) -> bool:
    """Whether a decoded value has what every event has."""
    if type(value) is not dict:
        return False
    stamp = value.get("timestamp")
    # By type(), since this is asked of every event that a monitor hears.
    return (
        (type(stamp) is float or type(stamp) is int)
        and 0 <= stamp < LATEST
        and type(value.get("type")) is str
        and type(value.get("hostname")) is str
    )
