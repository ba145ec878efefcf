"""Which instants of an entry are published now, by its policies, and when to look again.

In:  an entry, its instants, its state, the time.  Out: a Plan. No input or output of its own.
Before this: scheduler.py, which carries the plan out in one step of the store.
All times are epoch microseconds of the store's clock, so that schedulers on several hosts agree.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple, Protocol

from qcore.wire.schedule import EntryState, ScheduleEntry

SECOND_US = 1_000_000
#: with missed="skip", an instant that is later than this is not published
SKIPPED_AFTER_US = 60 * SECOND_US
#: how soon an entry whose last run has not ended is looked at again
OVERLAP_LOOK_US = SECOND_US
#: with one_off, or after ends_at, an entry is never looked at again
NEVER = 2**62


class Instants(Protocol):
    """The instants of a schedule (qcore/schedules/instants.py)."""

    def after(self, us: int) -> int | None:
        """The first instant after this time; None: there is none."""

    def pending(self, after_us: int, until_us: int, most: int) -> tuple[list[int], int]:
        """The newest `most` instants in (after, until], oldest first, and how many there are in all."""


class Plan(NamedTuple):
    """What to do with an entry: publish these instants, count those, move the cursor, look again then."""

    wake_us: int
    cursor_us: int | None = None  # None: the cursor stays
    instants: tuple[int, ...] = ()  # oldest first
    missed: int = 0
    overlapped: int = 0


def first_cursor(entry: ScheduleEntry, instants: Instants, now_us: int) -> int:
    """The cursor of a new entry: its first instant is the first one after this."""
    if entry.starts_at is None or (starts_us := round(entry.starts_at * SECOND_US)) <= now_us:
        return now_us
    # An interval counts from its cursor, and the first instant is the start itself.
    interval = entry.spec.get("kind") == "interval" and not entry.spec.get("relative")
    return starts_us - (round(entry.spec["every_s"] * SECOND_US) if interval else 1)


def jitter_us(entry: ScheduleEntry, instant_us: int) -> int:
    """By how much an instant is delayed: the same for each scheduler."""
    if not entry.jitter_s:
        return 0
    share = zlib.crc32(f"{entry.name}\0{instant_us}".encode()) / 2**32
    return int(entry.jitter_s * SECOND_US * share)


def plan(
    entry: ScheduleEntry, instants: Instants, state: EntryState, now_us: int, is_running: bool = False
) -> Plan:
    """is_running: the last run has not ended; asked for only where `overlap` forbids two at a time."""
    if not entry.enabled:
        return Plan(NEVER)
    if not state.cursor_us or is_ahead(entry, state, now_us):
        cursor_us = first_cursor(entry, instants, now_us)
        return Plan(_wake(entry, instants, cursor_us), cursor_us)
    until_us = now_us if entry.ends_at is None else min(now_us, round(entry.ends_at * SECOND_US))
    most = max(1, entry.missed_most) if entry.missed == "all" else 1
    due, count = instants.pending(state.cursor_us, until_us, most)
    while due and due[-1] + jitter_us(entry, due[-1]) > now_us:
        # Not yet: an earlier one may be due already.
        due, count = instants.pending(state.cursor_us, due[-1] - 1, most)
    if not due:
        return Plan(_wake(entry, instants, state.cursor_us))
    cursor_us = due[-1]
    if is_running and entry.overlap == "queue":
        return Plan(now_us + OVERLAP_LOOK_US)
    wake_us = _wake(entry, instants, cursor_us)
    if is_running and entry.overlap == "skip":
        return Plan(wake_us, cursor_us, overlapped=count)
    most_late_us = _most_late(entry)
    chosen = tuple(us for us in due if now_us - us - jitter_us(entry, us) <= most_late_us)
    overlapped = 0
    if entry.overlap != "run" and len(chosen) > 1:
        overlapped, chosen = len(chosen) - 1, chosen[-1:]
    return Plan(wake_us, cursor_us, chosen, count - len(chosen) - overlapped, overlapped)


def is_ahead(entry: ScheduleEntry, state: EntryState, now_us: int) -> bool:
    """Whether the clock went back so far that the cursor has no meaning any more, and the entry would be
    silent until then. Instants of a crontab are not repeated after a step of less than three hours, as cron
    does it; an interval counts from its cursor, so none of its instants comes twice."""
    starts_us = round((entry.starts_at or 0) * SECOND_US)
    allowed = SECOND_US if entry.spec.get("kind") == "interval" else 3 * 3600 * SECOND_US
    return state.cursor_us > max(now_us, starts_us) + allowed


def is_due(entry: ScheduleEntry, instants: Instants, state: EntryState, now_us: int) -> bool:
    """Whether an instant of an enabled entry has come; a cheaper look than plan()."""
    found = instants.after(state.cursor_us) if state.cursor_us else None
    return found is not None and found + jitter_us(entry, found) <= now_us


def _most_late(entry: ScheduleEntry) -> int:
    """How late an instant is published at most."""
    most = SKIPPED_AFTER_US if entry.missed == "skip" else NEVER
    return most if entry.deadline_s is None else min(most, round(entry.deadline_s * SECOND_US))


def _wake(entry: ScheduleEntry, instants: Instants, cursor_us: int) -> int:
    following = instants.after(cursor_us)
    if following is None or (entry.ends_at is not None and following > entry.ends_at * SECOND_US):
        return NEVER
    return following + jitter_us(entry, following)
