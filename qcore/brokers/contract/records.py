"""The records of the broker contract: messages, deliveries, settlements, and what a driver can do."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import msgspec

from qcore.errors import Malformed
from qcore.wire import envelope
from qcore.wire.failure import Failure
from qcore.wire.outcome import Before


class Features(msgspec.Struct, frozen=True):
    """What a driver can do."""

    results: bool = False  # keeps results itself, in the same write as the ack
    delay: bool = True  # holds delayed messages itself
    priority: bool = True
    fanout: bool = True  # broadcast and subscribe
    receivers_known: bool = False  # broadcast() can say how many heard it
    members_known: bool = False  # members() names the live workers
    members_replaced: bool = False  # announce() says what it replaced, so that two of one name find out
    foreign_known: bool = True  # foreign_members() too: a node that nobody names is not there
    peek: bool = True
    revokes: bool = False  # stores revoked ids
    revoked_lookup: bool = False  # revoked_among(), so that they need not all be read
    multi_host: bool = True
    lease: bool = True  # in-flight messages come back after lease_s; else when the connection ends
    pauses: bool = False  # keeps which queues are paused
    moves: bool = False  # moves, drops and replays single messages, each in one step
    once: bool = False  # publish_once() and first_time() know the keys of earlier calls
    failures: bool = False  # keeps failed tasks (brokers/contract/failed_tasks.py)
    audits: bool = False  # keeps the log of what people changed
    lines: bool = False  # keeps what tasks log (brokers/contract/task_logs.py)


class Message(msgspec.Struct, frozen=True):
    """A message to publish.

    Either `queue` is named (the default exchange), or exchange and routing_key are, and the broker
    finds the bound queues. due_at (epoch seconds) delays it inside the broker. priority goes from 0,
    which is served first, to 9, as with Celery on Redis; of every 16 messages that a consumer takes one
    is not the most urgent but what waited longest, so that no priority waits for ever.
    """

    raw: bytes
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    priority: int = 0
    due_at: float | None = None


def sent_again(message: Message) -> Message:
    """The same message, marked as one that may have been sent before: whoever gets it looks whether
    it is done. What is no envelope stays as it is."""
    try:
        found = envelope.decode(message.raw)
    except Malformed:
        return message
    found.headers = {**found.headers, "redelivered": True}
    return msgspec.structs.replace(message, raw=envelope.encode(found))


class Delivery(msgspec.Struct):
    """A message held by a consumer; it must be settled."""

    number: int  # chosen by the consumer, grows, unique in its life
    queue: str
    raw: bytes
    redelivered: bool = False  # somebody may have started it before
    deliveries: int = 1  # this is the n-th time it is handed out after a crash, as far as known
    handle: Any = None  # the driver's own


class Settle(enum.IntEnum):
    """What becomes of a delivery."""

    ACK = 0  # done with: gone
    REQUEUE = 1  # not started: back to the head of its queue, not counted as a redelivery
    RETURN = 2  # started or unknown: back to the head, flagged redelivered
    DELAY = 3  # held by the broker until due_at
    QUARANTINE = 4  # kept byte for byte with a reason, out of the way


class StoredResult(msgspec.Struct, frozen=True):
    """One result to store: meta is JSON bytes of wire/result.py."""

    task_id: str
    meta: bytes
    ttl_s: float | None = 86400.0  # None: for ever


class FullChord(msgspec.Struct):
    """A chord whose members have all ended, as far as the one who counted the last was told.

    token is the right to send its body: chord_done() checks it.
    """

    group: str
    token: str
    entries: list[bytes]  # one for each member, in their order: JSON [1, id, state, result]
    shape: bytes | None = None  # the saved GroupResult, when a client of Celery's nested groups


class Settlement(msgspec.Struct):
    """One delivery's end: all of it happens in one atomic step where the driver can.

    Order where it cannot: result, sends, then the delivery itself. Fenced: when the delivery is no
    longer ours (lease lost, channel closed), nothing of it happens.
    """

    delivery: Delivery
    action: Settle = Settle.ACK
    result: StoredResult | None = None  # only for drivers with features.results
    sends: tuple[Message, ...] = ()  # continuations, retries
    due_at: float = 0.0  # for DELAY
    reason: str = ""  # for QUARANTINE: a stable code
    failure: Failure | None = None  # only for drivers with features.failures
    before: Before | None = None  # for the worker, which sees to it first; drivers ignore it
    report: Callable[[], None] | None = None  # for the worker, once this was accepted; drivers ignore it


class Quarantined(msgspec.Struct, frozen=True):
    """A message that is not a task, kept with the reason."""

    id: str
    queue: str
    reason: str
    at: float  # epoch seconds
    raw: bytes


class Member(msgspec.Struct, frozen=True):
    """A worker that has announced itself; seen_at is the broker's clock."""

    node: str
    seen_at: float
    alive: bool  # its announcement has not expired
    info: dict[str, Any]  # pid, host, version, queues, epoch
