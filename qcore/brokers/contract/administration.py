"""The part of the broker contract for people: what waits where, pauses, single messages.

In:  names of queues, messages that wait.  Out: counts, messages as they wait, what could be done to them.
For drivers with features.pauses and features.moves; the others say that they cannot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import msgspec

from qcore.errors import Unsupported


class Depth(msgspec.Struct, frozen=True):
    """How many messages of a queue are where; None: the driver cannot tell."""

    ready: int
    delayed: int | None = None
    in_flight: int | None = None
    #: since when the oldest ready one is so, epoch seconds; None: unknown. On Redis the id of a task says it
    #: (wire/identity.py): since when it was sent or due, whatever happened to it since then
    oldest_at: float | None = None


class Pause(msgspec.Struct, frozen=True):
    """A paused queue: who did it, why, when and until when, in epoch seconds of the broker's clock."""

    queue: str
    reason: str = ""
    by: str = ""
    at: float | None = None  # None: it was paused by a version that did not note it
    until: float | None = None  # None: until somebody resumes it


class Waiting(msgspec.Struct, frozen=True):
    """A message that waits, as nobody has taken it."""

    queue: str
    raw: bytes  # as it was published
    priority: int = 0
    due_at: float | None = None  # epoch seconds; None: it is ready
    returns: int = 0  # how often somebody who may have started it gave it back
    handle: Any = None  # the driver's own


class Administration:
    """What operators do."""

    name: ClassVar[str]

    # --- looking

    def depth(self, queue: str) -> Depth:
        raise NotImplementedError

    def depths(self, queues: Sequence[str]) -> list[Depth]:
        """depth() of each, in as few round trips as the driver can."""
        return [self.depth(queue) for queue in queues]

    def held_by_others(self) -> int | None:
        """How many messages workers of other kinds (Celery) hold, of all queues; None: unknown."""
        return None

    def waiting(self, queue: str) -> Iterator[Waiting]:
        """The messages that wait: the ready ones in the order of claiming, then the delayed ones. Alters
        nothing and reads a page at a time; what comes or goes meanwhile may be missed."""
        raise Unsupported(self.name, "read all messages of a queue")

    # --- pausing

    def pause(self, queue: str, reason: str = "", by: str = "", for_s: float | None = None) -> None:
        """Until resume(), or for so many seconds, no consumer of ours takes from the queue; running tasks
        and publishers go on. Kept by the broker; consumers know within a second."""
        raise Unsupported(self.name, "pause a queue (`qctl control cancel_consumer` tells today's workers)")

    def resume(self, queue: str) -> None:
        raise Unsupported(self.name, "pause a queue")

    def pauses(self) -> list[Pause]:
        """The paused queues, by name."""
        return []

    def paused(self) -> list[str]:
        """Names of the paused queues."""
        return [pause.queue for pause in self.pauses()]

    # --- single messages

    def move(
        self, source: str, target: str, limit: int | None = None, ids: Sequence[str] | None = None
    ) -> int:
        """Move waiting messages, ready ones first, to the back of another queue, byte for byte and with
        their priorities and times; the number moved. Each is in one of the two at any instant. ids:
        only those of these tasks. Never what a consumer holds."""
        raise Unsupported(self.name, "move messages")

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        """Delete the waiting messages of these tasks; the number deleted."""
        raise Unsupported(self.name, "delete single messages")

    def drop_these(self, found: Sequence[Waiting]) -> list[bool]:
        """Delete messages that waiting() has shown, tasks or not; for each whether it still waited and is
        gone now. Each message in one step."""
        raise Unsupported(self.name, "delete single messages")

    def move_these(self, found: Sequence[Waiting], target: str) -> list[bool]:
        """Move messages that waiting() has shown, as move() does; for each whether it still waited."""
        raise Unsupported(self.name, "move messages")

    def replay(self, entry_id: str) -> bool:
        """Put one quarantined message back into its queue, byte for byte and as if never delivered.
        False: there is no such entry (any more)."""
        raise Unsupported(self.name, "replay a message")

    def forget(self, entry_id: str) -> bool:
        """Delete one quarantined message; False as in replay()."""
        raise Unsupported(self.name, "delete a message that was set aside")


#: entries that are kept; the oldest go first
AUDIT_SIZE = 10_000


class Audit:
    """The part of the broker contract about the log; for drivers with features.audits."""

    name: ClassVar[str]

    def audit(self, entry: bytes) -> None:
        """Add an entry; of more than AUDIT_SIZE the oldest are forgotten."""
        raise Unsupported(self.name, "keep an audit log")

    def audited(self, limit: int = 100) -> list[bytes]:
        """The newest entries, the newest first, byte for byte."""
        raise Unsupported(self.name, "keep an audit log")
