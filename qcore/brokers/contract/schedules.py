"""The part of the broker contract that keeps schedule entries, for drivers with features.schedules.

In:  entries and firings.  Out: entries with their states; messages, published in the step that takes their
instant. Schedulers need not know each other: an instant is taken by moving the entry's cursor from the value
that the scheduler has seen to the new one, and the messages are published in the same step. Of many that try,
one succeeds.

Entries have two parts: what a project declares, and what people changed or added (`edited`). Each change of
either gives the entry a new revision, from one counter for all entries; a scheduler asks for what is new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from qcore.brokers.contract.records import Member, Message
from qcore.errors import Unsupported
from qcore.wire.schedule import EntryState, HistoryRecord

#: decisions that are kept for each entry
HISTORY_SIZE = 50
#: a deleted entry is reported as deleted for so long, seconds
TOMBSTONE_S = 3600.0


class StoredEntry(msgspec.Struct, frozen=True):
    """An entry as it is stored."""

    name: str
    revision: int
    declared: bytes | None = None  # JSON of wire/schedule.py
    source: str = ""  # the app that declares it
    edited: bytes | None = None  # JSON: the fields that people changed; all fields of an entry they added
    edited_by: str = ""
    state: EntryState = EntryState()

    @property
    def is_deleted(self) -> bool:
        return self.declared is None and self.edited is None


class Firing(msgspec.Struct, frozen=True):
    """Instants of one entry that are decided: published, or given up.

    It takes effect if the entry exists and its cursor is still `expected_us`; then the cursor becomes
    `cursor_us`, the counts grow, the records are added to the history, and the messages are published.
    expected_us None: whatever the cursor is, which stays (a run by hand); it takes effect once for each
    task_id that is in the last decisions, so it is safe to repeat.
    """

    name: str
    expected_us: int | None
    cursor_us: int = 0
    messages: tuple[Message, ...] = ()
    records: tuple[HistoryRecord, ...] = ()  # oldest first
    runs: int = 0
    missed: int = 0
    overlapped: int = 0
    task_id: str = ""  # of the last message; '' leaves the last_… fields as they are
    instant_us: int = 0
    by: str = ""


def state_after(found: EntryState, firing: Firing, now_us: int) -> EntryState:
    """The state of an entry once the firing has taken effect, at now_us in the store's clock."""
    changes: dict[str, Any] = {
        "runs": found.runs + firing.runs,
        "missed": found.missed + firing.missed,
        "overlapped": found.overlapped + firing.overlapped,
    }
    if firing.expected_us is not None:
        changes["cursor_us"] = firing.cursor_us
    if firing.task_id:
        changes["last_task_id"], changes["last_by"] = firing.task_id, firing.by
        changes["last_instant_us"], changes["last_sent_us"] = firing.instant_us, now_us
    return replace(found, **changes)


class OutboxItem(msgspec.Struct, frozen=True):
    """A message of a firing that waits to be published on another broker."""

    id: str
    at: float  # epoch seconds, when its instant was taken
    message: Message


class ScheduleStore:
    """The schedule entries of one broker. Thread-safe."""

    #: messages are not published but wait in the outbox: the tasks go to another broker
    uses_outbox: bool = False
    #: how long deleted entries are reported, seconds
    tombstone_s: float = TOMBSTONE_S

    def __init__(self, driver: str) -> None:
        """driver: the name of the driver, for the messages of Unsupported."""
        self._driver = driver

    def clock(self) -> tuple[float, int]:
        """(the store's clock in epoch seconds, the newest revision; 0 if there was never an entry), in one
        round trip."""
        raise self._unsupported()

    def entries(self, since: int = 0) -> list[StoredEntry]:
        """The entries whose revision is above `since`, by name, with their states; with since > 0 also those
        that were deleted meanwhile."""
        raise self._unsupported()

    def named(self, names: Sequence[str]) -> list[StoredEntry | None]:
        """These entries; None for those that do not exist."""
        raise self._unsupported()

    def declare(self, source: str, entries: Mapping[str, bytes]) -> list[str]:
        """Make these the entries that `source` declares, in one step: new ones are added, changed ones
        replaced, others of the same source are deleted with what people changed of them. Unchanged entries
        keep their revision, all keep their state. An entry that people added keeps their fields as changes
        of the declared one; of an entry that another source declares, the last one wins. Returns the names
        that changed."""
        raise self._unsupported()

    def edit(
        self,
        name: str,
        edited: bytes | None,
        by: str = "",
        revision: int | None = None,
        cursor_us: int | None = None,
    ) -> bool:
        """Replace what people changed of an entry (None: nothing any more), or add an entry. revision: only
        if the entry still has it (0: only if it does not exist). cursor_us: moves its cursor there, so that
        earlier instants are not published; never back, since a later instant may have been published
        meanwhile. Each edit that takes effect gives the entry a new revision. Returns whether it took
        effect; with edited None also False if the entry does not exist. An entry that is neither declared
        nor edited after this is deleted."""
        raise self._unsupported()

    def fire(self, firings: Sequence[Firing]) -> list[EntryState | None]:
        """Carry out each firing in one step. For each None if it took effect, else the state that was found
        (an empty one if the entry does not exist). Records without a time get that of the store's clock.
        Raises as Broker.publish(): Unroutable before anything has taken effect; after BrokerDown each firing
        may or may not have taken effect, and is safe to repeat."""
        raise self._unsupported()

    def history(self, name: str, limit: int = HISTORY_SIZE) -> list[HistoryRecord]:
        """The last decisions, newest first."""
        raise self._unsupported()

    # --- the outbox, for stores whose uses_outbox is set

    def outbox(self, limit: int = 100) -> list[OutboxItem]:
        """The oldest messages that wait to be published."""
        return []

    def sent(self, ids: Sequence[str]) -> None:
        """Remove these from the outbox."""

    # --- schedulers

    def announce(self, node: str, facts: dict[str, Any], ttl_s: float) -> None:
        """Announce a running scheduler; expires after ttl_s seconds without another call."""
        raise self._unsupported()

    def retire(self, node: str) -> None:
        """Remove the announcement."""
        raise self._unsupported()

    def schedulers(self) -> list[Member]:
        """The schedulers that announced themselves; those that expired in the last hour with alive=False."""
        raise self._unsupported()

    def _unsupported(self) -> Unsupported:
        what = "keep schedule entries; set schedule_store to a redis://, sqlite:// or db+… URL"
        return Unsupported(self._driver, what)
