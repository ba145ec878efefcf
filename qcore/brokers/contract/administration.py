"""The part of the broker contract for operators: queue contents, pauses, single messages, the audit log.

In:  names of queues, waiting messages.  Out: counts, waiting messages, how many were changed.
Pauses and changes of single messages are for drivers with features.pauses and features.moves; the others
raise Unsupported.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from qcore.brokers.contract.records import Quarantined
from qcore.errors import Unsupported

#: entries of the audit log that are kept; the oldest go first
AUDIT_SIZE = 10_000


class Depth(msgspec.Struct, frozen=True):
    """The number of messages of a queue in each place; None: the driver cannot determine it."""

    ready: int
    delayed: int | None = None
    in_flight: int | None = None
    #: since when the oldest ready message is ready, epoch seconds; None: unknown. On Redis it is derived from
    #: the task id (wire/identity.py): when the task was sent or due, whatever happened to it since then
    oldest_at: float | None = None


class Pause(msgspec.Struct, frozen=True):
    """A paused queue: by whom, why, when and until when, in epoch seconds of the broker's clock."""

    queue: str
    reason: str = ""
    by: str = ""
    at: float | None = None  # None: paused by a version that did not record it
    until: float | None = None  # None: until it is resumed
    #: Celery workers that were told to stop consuming the queue, and consume it again once it is resumed
    told: tuple[str, ...] = ()


class Waiting(msgspec.Struct, frozen=True):
    """A message that no consumer holds: ready or delayed."""

    queue: str
    raw: bytes  # as it was published
    priority: int = 0
    due_at: float | None = None  # epoch seconds; None: ready
    returns: int = 0  # how often it was returned by an owner that may have started it
    handle: Any = None  # the driver's own data


class Holder(msgspec.Struct, frozen=True):
    """Who holds a message in flight."""

    queue: str
    raw: bytes
    node: str = ""  # the name of the worker; empty: unknown
    #: when its lease ends unless it is renewed, epoch seconds; None: there is no lease
    until: float | None = None
    by_celery: bool = False  # a worker of Celery, which has no lease


class Administration(ABC):
    """Operations for operators."""

    def __init__(self, driver: str) -> None:
        """driver: the name of the driver, for the messages of Unsupported."""
        self._driver = driver

    # --- inspect

    @abstractmethod
    def queues(self) -> list[str]:
        """Names of the queues that exist or have been consumed, as far as the broker can list them."""

    @abstractmethod
    def depth(self, queue: str) -> Depth: ...

    def depths(self, queues: Sequence[str]) -> list[Depth]:
        """depth() of each, in as few round trips as the driver can."""
        return [self.depth(queue) for queue in queues]

    def held_by_others(self) -> int | None:
        """The number of messages held by workers of other kinds (Celery) whose queue is unknown, so that
        no depth counts them; None: unknown."""
        return None

    @abstractmethod
    def peek(self, queue: str, limit: int = 20) -> list[bytes]:
        """The next messages to be claimed, byte for byte, without changing anything."""

    def delayed(self, queue: str, limit: int = 100) -> list[tuple[float, bytes]]:
        """The delayed messages, nearest first: (due at, bytes). Empty where the driver cannot list
        them."""
        return []

    def waiting(self, queue: str) -> Iterator[Waiting]:
        """The waiting messages: the ready ones in claim order, then the delayed ones. Alters nothing and
        reads page by page; messages that arrive or leave meanwhile may be missed."""
        raise Unsupported(self._driver, "read all messages of a queue")

    def holder(self, task_id: str) -> Holder | None:
        """Who holds the message of this task in flight; None when nobody does. For drivers with
        features.moves; it reads all messages in flight."""
        raise Unsupported(self._driver, "look into the messages in flight")

    @abstractmethod
    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        """The malformed messages, newest first."""

    # --- pause

    def pause(
        self,
        queue: str,
        reason: str = "",
        by: str = "",
        for_s: float | None = None,
        told: Sequence[str] = (),
    ) -> None:
        """Until resume(), or for for_s seconds, no qcore consumer claims from the queue; running tasks and
        publishers continue. Stored by the broker; takes effect within a second. told: as in Pause; a driver
        that only qcore's workers use ignores it."""
        what = "pause a queue (`qctl control cancel_consumer` stops today's workers)"
        raise Unsupported(self._driver, what)

    def resume(self, queue: str) -> None:
        raise Unsupported(self._driver, "pause a queue")

    def pauses(self) -> list[Pause]:
        """The paused queues, by name."""
        return []

    def paused(self) -> list[str]:
        """Names of the paused queues."""
        return [pause.queue for pause in self.pauses()]

    # --- messages

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Delete the ready and delayed messages; returns the number deleted."""

    def move(
        self, source: str, target: str, limit: int | None = None, ids: Sequence[str] | None = None
    ) -> int:
        """Move waiting messages, ready ones first, to the back of another queue, byte for byte and with
        their priorities and times; returns the number moved. Each is in exactly one of the two at any
        instant. ids: only the messages of these tasks. Never moves a message in flight."""
        raise Unsupported(self._driver, "move messages")

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        """Delete the waiting messages of these tasks; returns the number deleted."""
        raise Unsupported(self._driver, "delete single messages")

    def drop_these(self, found: Sequence[Waiting]) -> list[bool]:
        """Delete messages that waiting() returned, tasks or not; for each, whether it still waited and is
        now deleted. Each message in one step."""
        raise Unsupported(self._driver, "delete single messages")

    def move_these(self, found: Sequence[Waiting], target: str) -> list[bool]:
        """Move messages that waiting() returned, as move() does; for each, whether it still waited."""
        raise Unsupported(self._driver, "move messages")

    def replay(self, entry_id: str) -> bool:
        """Requeue one quarantined message, byte for byte and as if never delivered.
        False: there is no such entry (any more)."""
        raise Unsupported(self._driver, "replay a message")

    def forget(self, entry_id: str) -> bool:
        """Delete one quarantined message; False as in replay()."""
        raise Unsupported(self._driver, "delete a message that was set aside")

    # --- the audit log, for drivers with features.audits

    def audit(self, entry: bytes) -> None:
        """Add an entry; of more than AUDIT_SIZE the oldest are forgotten."""
        raise Unsupported(self._driver, "keep an audit log")

    def audited(self, limit: int = 100) -> list[bytes]:
        """The newest entries, the newest first, byte for byte."""
        raise Unsupported(self._driver, "keep an audit log")
