"""The records of the broker contract: messages, deliveries, settlements, and a driver's features."""

from __future__ import annotations

import enum
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import msgspec

from qcore.errors import Malformed
from qcore.wire import envelope
from qcore.wire.failure import FailedTask
from qcore.wire.outcome import Preconditions


class Features(msgspec.Struct, frozen=True):
    """The capabilities of a driver."""

    results: bool = False  # stores results itself, in the same write as the acknowledgement
    delay: bool = True  # stores delayed messages itself
    priority: bool = True
    fanout: bool = True  # broadcast and subscribe
    exchanges: tuple[str, ...] = ()  # the types of exchanges that bind() knows
    receivers_known: bool = False  # broadcast() returns the number of subscribers reached
    members_known: bool = False  # members() names the live workers
    members_replaced: bool = False  # announce() returns the one it replaced: detects two workers of one name
    foreign_known: bool = True  # foreign_members() is complete: a node not returned does not exist
    peek: bool = True
    revokes: bool = False  # stores revoked ids
    revoked_lookup: bool = False  # revoked_among() exists, so a worker need not read all revoked ids
    multi_host: bool = True
    lease: bool = True  # in-flight messages come back after lease_s; else when the connection ends
    pauses: bool = False  # keeps which queues are paused
    moves: bool = False  # moves, drops and replays single messages, each in one step
    once: bool = False  # publish_once() and first_time() know the keys of earlier calls
    failures: bool = False  # keeps failed tasks (brokers/contract/failed_tasks.py)
    audits: bool = False  # keeps the log of what people changed
    schedules: bool = False  # keeps schedule entries (brokers/contract/schedules.py)
    lines: bool = False  # keeps what tasks log (brokers/contract/task_logs.py)


class Message(msgspec.Struct, frozen=True):
    """A message to publish.

    Either `queue` is set (the default exchange), or exchange and routing_key are, and the broker
    finds the bound queues. due_at (epoch seconds) delays it inside the broker. priority goes from 0,
    which is served first, to 9, as with Celery on Redis; of every 16 messages that a consumer claims one
    is not the most urgent but the oldest, so that no priority starves.
    """

    raw: bytes
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    priority: int = 0
    due_at: float | None = None


def sent_again(message: Message) -> Message:
    """A copy of the message with the flag that it may have been published before: its receiver checks
    whether the task is already done. Bytes that are not an envelope are returned unchanged."""
    try:
        found = envelope.decode(message.raw)
    except Malformed:
        return message
    found.headers = {**found.headers, "redelivered": True}
    return msgspec.structs.replace(message, raw=envelope.encode(found))


class Delivery(msgspec.Struct):
    """A message in flight, held by a consumer, which must settle it."""

    number: int  # chosen by the consumer, increasing, unique during its life
    queue: str
    raw: bytes
    redelivered: bool = False  # an earlier run may have started it
    deliveries: int = 1  # this is the n-th delivery after a crash, as far as known
    handle: Any = None  # the driver's own data


#: seconds within which the broker must confirm what is published; None: as its driver says
confirm_within_s: ContextVar[float | None] = ContextVar("confirm_within_s", default=None)


class Settle(enum.IntEnum):
    """How a delivery is settled."""

    ACK = 0  # acknowledge: delete the message
    REQUEUE = 1  # not started: to the head of its queue, not counted as a redelivery
    RETURN = 2  # started or unknown: to the head of its queue, flagged redelivered
    DELAY = 3  # stored by the broker until due_at
    QUARANTINE = 4  # set aside byte for byte with a reason


class StoredResult(msgspec.Struct, frozen=True):
    """One result to store: meta is JSON bytes of wire/result.py."""

    task_id: str
    meta: bytes
    ttl_s: float | None = 86400.0  # None: never expires


class FullChord(msgspec.Struct):
    """A chord whose members have all ended, as known to the process that counted the last one.

    token is the right to send its body: Chords.finish() checks it.
    """

    group: str
    token: str
    entries: list[bytes]  # one for each member, in member order: [1, id, state, result] (wire/result_form.py)
    shape: bytes | None = None  # the saved GroupResult, for the nested groups of a Celery client


class Settlement(msgspec.Struct):
    """How one delivery ends: one atomic step where the driver supports it.

    Order where it does not: result, sends, then the delivery itself. Fenced: when the delivery is no
    longer held (lease lost, channel closed), no part of it takes effect.
    """

    delivery: Delivery
    action: Settle = Settle.ACK
    result: StoredResult | None = None  # only for drivers with features.results
    sends: tuple[Message, ...] = ()  # continuations, retries
    due_at: float = 0.0  # for DELAY
    reason: str = ""  # for QUARANTINE: a stable code
    failure: FailedTask | None = None  # only for drivers with features.failures
    before: Preconditions | None = None  # for the worker, which sees to it first; drivers ignore it
    report: Callable[[], None] | None = None  # for the worker, once this was accepted; drivers ignore it
    is_announced: bool = False  # the run has sent after_task_publish for `sends`; drivers ignore it


class Quarantined(msgspec.Struct, frozen=True):
    """A malformed message, stored with the reason."""

    id: str
    queue: str
    reason: str
    at: float  # epoch seconds
    raw: bytes


class Member(msgspec.Struct, frozen=True):
    """A worker that has announced itself; seen_at is in the broker's clock."""

    node: str
    seen_at: float
    alive: bool  # its announcement has not expired
    info: dict[str, Any]  # pid, host, version, queues, epoch
