"""Jobs and outcomes: the messages between the worker's parent process and its children.

In:  a delivery handed to a slot (Job).  Out: how its run ended (Outcome).
Both cross a socket pair as MessagePack arrays behind a four-byte length; both ends are the same
version of the same program, so fields are positional.
"""

from __future__ import annotations

import enum
import struct
from typing import Any

import msgspec

LENGTH = struct.Struct("<I")
#: bytes per read; the C library maps and unmaps larger buffers at each use, which is slow
RECV_BYTES = 65_536


class End(enum.IntEnum):
    """How a run ended."""

    SUCCESS = 0
    FAILURE = 1
    RETRY = 2
    IGNORED = 3
    REJECTED = 4  # not requeued
    REQUEUED = 5  # requeue for another worker
    MALFORMED = 6  # the body was not a call
    LOST = 7  # the process died; reported by the parent
    TIME_LIMIT = 8  # killed by the parent at the hard limit
    TERMINATED = 9  # killed by an operator
    CANCELLED = 10  # killed because the connection to the broker was lost


class Job(msgspec.Struct, array_like=True):
    """One message for a slot."""

    number: int
    raw: bytes
    redelivered: bool = False
    deliveries: int = 1
    soft_s: float | None = None
    queue: str = ""
    seq: int = 0  # counts the jobs of one slot; set by the pool


class Send(msgspec.Struct, array_like=True):
    """A message that follows from a run: a retry, a callback, the next link of a chain."""

    raw: bytes
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    priority: int = 0
    due_at: float | None = None


class ChordPart(msgspec.Struct, array_like=True):
    """The end of one member of a chord."""

    group: str
    task_id: str
    index: int | None
    entry: bytes  # [1, id, state, result], as Celery stores it for the body (result_form.py)
    body: bytes  # the signature of the chord's body, JSON
    root_id: str | None = None


class Preconditions(msgspec.Struct, array_like=True):
    """Data that must be durable before the messages of a run are sent and its delivery is settled."""

    results: list[tuple[str, bytes]] = []  # (id, meta) of tasks that will not run
    sizes: list[tuple[str, int]] = []  # (group, members) of chords that are sent
    parts: list[ChordPart] = []
    headers: list[
        tuple[str, list[Any]]
    ] = []  # (group, handles of the members) for backends of other packages


class Outcome(msgspec.Struct, array_like=True):
    """How the run of a job ended."""

    number: int
    end: int
    started: float  # epoch seconds
    runtime_s: float
    pid: int
    meta: bytes | None = None  # the result to store, None: nothing to store
    sends: list[Send] = []
    text: str = ""  # repr of the value, or of the exception; a reason code when malformed
    traceback: str = ""
    expected: bool = False  # the exception is one of the task's `throws`: no traceback in the log
    retry_due: float | None = None
    before: Preconditions | None = None
    error: tuple[str, str] | None = None  # of a failure: type and message of the exception


_job_encode = msgspec.msgpack.Encoder().encode
_jobs_decode = msgspec.msgpack.Decoder(list[Job]).decode
_outcome_decode = msgspec.msgpack.Decoder(Outcome).decode


def pack_jobs(jobs: list[Job]) -> bytes:
    """One frame with these jobs."""
    body = _job_encode(jobs)
    return LENGTH.pack(len(body)) + body


def unpack_jobs(frame: bytes) -> list[Job]:
    return _jobs_decode(frame)


def pack_outcome(outcome: Outcome) -> bytes:
    """One frame with this outcome."""
    body = _job_encode(outcome)
    return LENGTH.pack(len(body)) + body


def unpack_outcome(frame: bytes) -> Outcome:
    return _outcome_decode(frame)


class Frames:
    """Splits received bytes into frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes; returns the frames that are now complete."""
        buffer = self._buffer
        buffer += data
        frames: list[bytes] = []
        at, have = 0, len(buffer)
        while have - at >= 4:
            (length,) = LENGTH.unpack_from(buffer, at)
            if have - at - 4 < length:
                break
            frames.append(bytes(buffer[at + 4 : at + 4 + length]))
            at += 4 + length
        if at:
            del buffer[:at]
        return frames


def anything(value: Any) -> bytes:
    """Any plain value as one frame (messages of the fork server)."""
    body = msgspec.msgpack.encode(value)
    return LENGTH.pack(len(body)) + body
