"""A schedule entry as it is stored, and what became of it.

In:  entries that the code declares (`beat_schedule`) or people add.  Out: JSON, and back.
The format is qcore's own. `spec` says when: {"kind": "interval" | "crontab" | "solar" | "code", …}; the
fields of each kind are those of qcore/schedules/specs.py. An entry of the kind `code` has a schedule
that only the project's code can compute, so only a scheduler that has loaded the project publishes it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from qcore.errors import Malformed

MISSED = ("once", "skip", "all")
OVERLAP = ("run", "skip", "queue")
DST = ("auto", "once", "each")

#: headers of the messages of entries: as Celery's beat and django-celery-beat write them, and the instant
BEAT_HEADER, NAME_HEADER, INSTANT_HEADER = "celery_beat_task", "periodic_task_name", "qcore_scheduled_for"


class ScheduleEntry(msgspec.Struct, omit_defaults=True):
    """A task and when it is published. Times are seconds; instants are epoch seconds."""

    name: str
    task: str
    spec: dict[str, Any]
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    options: dict[str, Any] = {}  # of apply_async()
    enabled: bool = True
    missed: str = "once"  # what happens to instants that passed while no scheduler could publish: MISSED
    missed_most: int = 100  # with missed="all": the newest so many
    overlap: str = "run"  # what happens at an instant while the last run has not ended: OVERLAP
    jitter_s: float = 0.0  # each instant is published up to so much later, always the same for one instant
    starts_at: float | None = None
    ends_at: float | None = None
    deadline_s: float | None = None  # an instant that is later than this is not published
    timezone: str = ""  # of a crontab; '': the app's
    note: str = ""  # a text for people
    dst: str = "auto"  # of a crontab: what happens when the zone changes its offset: schedules/cron.py


class EntryState(msgspec.Struct, omit_defaults=True, frozen=True):
    """What became of an entry. All schedulers share it; only ScheduleStore.fire() changes it."""

    cursor_us: int = 0  # the newest instant that is decided, epoch microseconds; 0: none yet
    runs: int = 0  # messages published, those of `qctl schedule run` included
    missed: int = 0  # instants that passed and were not published
    overlapped: int = 0  # instants that were not published because the last run had not ended
    last_task_id: str = ""
    last_instant_us: int = 0  # of the last message
    last_sent_us: int = 0  # when it was published, in the store's clock
    last_by: str = ""  # the scheduler, or the person, that published it

    @property
    def late_s(self) -> float:
        """How late the last message was published, seconds."""
        return max(0, self.last_sent_us - self.last_instant_us) / 1e6


class HistoryRecord(msgspec.Struct, omit_defaults=True, frozen=True):
    """One decision about an instant."""

    instant_us: int
    outcome: str  # sent, missed, overlapped, by hand
    at_us: int = 0
    task_id: str = ""
    by: str = ""
    count: int = 1  # instants that this stands for


_encode = msgspec.json.Encoder().encode
_entry = msgspec.json.Decoder(ScheduleEntry).decode
_fields = msgspec.json.Decoder(dict[str, Any]).decode


def encode(entry: ScheduleEntry) -> bytes:
    return _encode(entry)


def decode(declared: bytes | None, edited: bytes | None) -> ScheduleEntry:
    """The entry that takes effect: what the code declares, with what people changed. Both are JSON objects
    of the fields of ScheduleEntry. Raises Malformed."""
    try:
        if edited is None or declared is None:
            return _entry(declared or edited or b"{}")
        fields = {**_fields(declared), **_fields(edited)}
        return msgspec.convert(fields, ScheduleEntry)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise Malformed("bad_schedule_entry", str(exc)[:200]) from exc
