"""The schedule at one moment, for the Schedules screen.

In:  what is on the screen (ScheduleLook).  Out: a ScheduleBoard with the rows near it.  After this:
sources/schedule_poll.py makes it, views/schedules.py draws it. Times are epoch seconds of the store's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from qcore.wire.schedule import HistoryRecord

#: what the time line shows, seconds
SPAN_S = 3600.0


class ScheduleLook(msgspec.Struct, frozen=True):
    """What of the schedule is on the screen."""

    pattern: str = ""  # only entries that contain this text
    order: str = ""  # the field of an item (fleet/schedules.py) by which they are sorted; '': the name
    reverse: bool = False
    first: int = 0  # the row at the top
    lines: int = 40
    selected: str = ""  # the entry whose history is read
    columns: int = 60  # of the time line

    @property
    def step_s(self) -> float:
        """The seconds of one column of the time line."""
        return SPAN_S / max(self.columns, 1)


class ScheduleRow(msgspec.Struct, frozen=True):
    """One entry."""

    name: str
    item: dict[str, Any] | None = None  # of fleet/schedules.py; None: not computed yet, or not readable
    problem: str = ""  # why it cannot be read
    result: str | None = None  # the state of its last task; None: unknown
    upcoming: tuple[float, ...] = ()  # its instants in the next hour, at most one of each column

    @property
    def status(self) -> str:
        return "broken" if self.problem else str(self.item["status"]) if self.item else ""

    @property
    def edited(self) -> bool:
        """Whether people override what the code declares."""
        return bool(self.item and self.item["edited"] and self.item["source"] is not None)

    def time(self, field: str) -> float | None:
        """A time of the item; None: unknown, or never."""
        text = self.item.get(field) if self.item else None
        return None if text is None else datetime.fromisoformat(text).timestamp()


class ScheduleBoard(msgspec.Struct, frozen=True):
    """The schedule. Not asked: it has not been read yet."""

    asked: bool = False
    note: str = ""  # why there is no schedule here: one sentence
    trouble: str = ""  # why it cannot be read at the moment
    rows: Sequence[ScheduleRow] = ()  # those that fit the pattern, in order
    total: int = 0
    missed: int = 0  # entries of which instants were missed
    paused: int = 0
    broken: int = 0  # entries that cannot be read
    schedulers: tuple[str, ...] = ()  # those that run
    ahead_s: float = 0.0  # the store's clock minus the local one
    history: dict[str, tuple[HistoryRecord, ...]] = {}  # of entries that were selected, newest first
