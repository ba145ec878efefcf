"""`app.schedules`: the entries of the schedule, read and changed while schedulers run.

In:  names and fields of entries.  Out: entries, each with its state; messages that are sent by hand.
What the code declares and what people changed are kept apart: an edit of a declared entry is an override that
reset() drops. Schedulers see a change within a second.
Before this: qctl/commands/schedule.py.  After this: brokers/X/schedules.py.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from qcore.app.schedule_entries import Declared, declared, evaluated, instant_of, seconds_of, zone_of
from qcore.base.times import iso
from qcore.brokers.contract.records import Message
from qcore.brokers.contract.schedules import Firing, ScheduleStore, StoredEntry
from qcore.errors import ConfigError, Malformed, UnknownName
from qcore.schedules.instants import instants
from qcore.schedules.specs import parse, to_spec
from qcore.schedules.words import words
from qcore.tasks.result import AsyncResult
from qcore.tasks.signature import SendPlan
from qcore.wire import schedule as wire
from qcore.wire.schedule import (
    BEAT_HEADER,
    DST,
    INSTANT_HEADER,
    MISSED,
    NAME_HEADER,
    OVERLAP,
    EntryState,
    HistoryRecord,
    ScheduleEntry,
)

#: the fields that people may change
EDITABLE = tuple(name for name in ScheduleEntry.__struct_fields__ if name != "name")
_TYPES = {field.name: field.type for field in msgspec.structs.fields(ScheduleEntry)}


class Scheduled(NamedTuple):
    """An entry as it takes effect, and where it comes from."""

    entry: ScheduleEntry
    state: EntryState
    source: str | None  # the app that declares it; None: people added it
    edited: tuple[str, ...]  # the fields that people changed
    edited_by: str
    revision: int


def message_of(
    app: Any, entry: ScheduleEntry, instant_us: int, code: Declared | None = None
) -> tuple[str, list[Message]]:
    """The task id and the messages of one instant of an entry. Raises what sending the task raises, except
    for the errors of the broker."""
    args, kwargs = (entry.args, entry.kwargs) if code is None else evaluated(code)
    headers = {
        **(entry.options.get("headers") or {}),
        BEAT_HEADER: True,
        NAME_HEADER: entry.name,
        INSTANT_HEADER: iso(instant_us / 1e6),
    }
    options = {**entry.options, "headers": headers}
    if entry.overlap != "run":
        options["ignore_result"] = False  # whether a run has ended is known from its result
    out = SendPlan(app)
    task_id = out.add(entry.task, list(args), dict(kwargs), options)
    return task_id, out.messages


def who() -> str:
    """The person that changes something, for the records."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


class Schedules:
    """The schedule of an app. All methods raise BrokerError, and ConfigError where no entries are kept."""

    def __init__(self, app: Any, store: ScheduleStore) -> None:
        self.app, self.store = app, store

    # --- read

    def all(self) -> list[Scheduled]:
        """All entries, by name. Raises Malformed for one that cannot be read."""
        return [scheduled(found) for found in self.store.entries()]

    def get(self, name: str) -> Scheduled:
        """Raises UnknownName."""
        return scheduled(self._stored(name))

    def next(self, name: str, count: int = 10, after: float | None = None) -> list[float]:
        """The next instants of an entry, epoch seconds; fewer if it ends. Raises UnknownName, and ConfigError
        for an entry whose schedule is code."""
        found = self.get(name)
        return following(self.app, found.entry, found.state, count, after or self.store.clock()[0])

    def history(self, name: str, limit: int = 50) -> list[HistoryRecord]:
        """The last decisions about an entry, newest first. Raises UnknownName."""
        self._stored(name)
        return self.store.history(name, limit)

    def explain(self, entry: ScheduleEntry) -> str:
        """When an entry is due, in words."""
        return words(entry.spec, entry.timezone or self.app.conf.timezone or "")

    # --- change

    def add(self, name: str, task: str, schedule: Any = None, by: str = "", **fields: Any) -> Scheduled:
        """Add an entry. schedule: a schedule, seconds, or text such as `*/5 * * * *`, `every 30s`; or its
        spec as a field. fields: those of ScheduleEntry. Raises ConfigError if it exists, or for a field that
        is wrong."""
        zone = fields.get("timezone") or self.app.conf.timezone or "UTC"
        when = {} if schedule is None else {"schedule": schedule}
        given = self._checked({**fields, **when, "task": task, "timezone": zone})
        if "spec" not in given:
            raise ConfigError(f"the schedule entry '{name}' has no schedule")
        entry = wire.decode(None, msgspec.json.encode({"name": name, **given}))
        if not self.store.edit(name, wire.encode(entry), by or who(), revision=0):
            raise ConfigError(f"there is a schedule entry '{name}' already; `edit` changes it")
        return self.get(name)

    def edit(self, name: str, by: str = "", **fields: Any) -> Scheduled:
        """Change fields of an entry; of a declared one they override what the code says. Raises UnknownName,
        ConfigError."""
        given = self._checked(fields)
        while True:
            found = self._stored(name)
            edited = {**_fields(found.edited), **given}
            if self._write(found, edited, by):
                return self.get(name)

    def reset(self, name: str, by: str = "") -> Scheduled:
        """Drop what people changed of a declared entry. Raises UnknownName, ConfigError."""
        found = self._stored(name)
        if found.declared is None:
            raise ConfigError(f"the schedule entry '{name}' is not declared by code; `rm` deletes it")
        self.store.edit(name, None, by or who())
        return self.get(name)

    def remove(self, name: str, by: str = "") -> None:
        """Delete an entry that people added. Raises UnknownName, and ConfigError for a declared one."""
        found = self._stored(name)
        if found.declared is not None:
            raise ConfigError(
                f"the schedule entry '{name}' is declared by the code of {found.source or 'its app'}, "
                "which would declare it again; pause it instead"
            )
        self.store.edit(name, None, by or who())

    def pause(self, name: str, by: str = "") -> Scheduled:
        """No instant of the entry is published until resume(). Raises UnknownName."""
        return self.edit(name, by, enabled=False)

    def resume(self, name: str, by: str = "") -> Scheduled:
        """Publish the entry again, from the next instant on. Raises UnknownName."""
        while True:
            found = self._stored(name)
            if scheduled(found).entry.enabled:
                return scheduled(found)
            edited = _fields(found.edited)
            if found.declared is not None and _fields(found.declared).get("enabled", True):
                edited.pop("enabled", None)
            else:
                edited["enabled"] = True
            if self._write(found, edited, by, round(self.store.clock()[0] * 1e6)):
                return self.get(name)

    def run(self, name: str, by: str = "") -> AsyncResult:
        """Send the task of an entry now, beside its schedule. Raises UnknownName."""
        found, by = self.get(name), by or who()
        now_us = round(self.store.clock()[0] * 1e6)
        code = None
        if found.entry.spec.get("kind") == "code":
            code = declared(self.app).get(name)
            if code is None:
                raise ConfigError(
                    f"the arguments of the schedule entry '{name}' are computed by its code; "
                    "give -A with its project"
                )
        task_id, messages = message_of(self.app, found.entry, now_us, code)
        record = HistoryRecord(now_us, "by hand", now_us, task_id, by)
        firing = Firing(
            name, None, 0, tuple(messages), (record,), 1, task_id=task_id, instant_us=now_us, by=by
        )
        if self.store.fire([firing])[0] is not None:
            raise UnknownName("schedule entry", name, [])
        if self.store.uses_outbox:
            self.app.broker.publish(messages)
            raws = {one.raw for one in messages}
            self.store.sent([item.id for item in self.store.outbox(10_000) if item.message.raw in raws])
        return AsyncResult(task_id, app=self.app, task_name=found.entry.task)

    # --- helpers

    def _stored(self, name: str) -> StoredEntry:
        (found,) = self.store.named([name])
        if found is None:
            known = [one.name for one in self.store.entries()]
            raise UnknownName("schedule entry", name, known)
        return found

    def _write(
        self, found: StoredEntry, edited: dict[str, Any], by: str, cursor_us: int | None = None
    ) -> bool:
        wire.decode(found.declared, msgspec.json.encode(edited))  # refuses what cannot be read
        raw = msgspec.json.encode(edited) if edited or found.declared is None else None
        return self.store.edit(found.name, raw, by or who(), found.revision, cursor_us)

    def _checked(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields as they are stored. Raises ConfigError."""
        given = dict(fields)
        if "schedule" in given:
            schedule = given.pop("schedule")
            given["spec"] = parse(schedule) if isinstance(schedule, str) else to_spec(schedule)
            if given["spec"]["kind"] == "code":
                raise ConfigError(f"{schedule!r} cannot be stored; declare it in beat_schedule")
        for name, value in given.items():
            if name in ("starts_at", "ends_at"):
                given[name] = value = instant_of(self.app, value)
            elif name in ("jitter_s", "deadline_s"):
                given[name] = value = seconds_of(value)
            if name not in EDITABLE:
                from difflib import get_close_matches

                near = get_close_matches(name, [*EDITABLE, "schedule"], 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ConfigError(f"a schedule entry has no field '{name}'{hint}")
            for field, allowed in (("missed", MISSED), ("overlap", OVERLAP), ("dst", DST)):
                if name == field and value not in allowed:
                    raise ConfigError(f"{field} is one of {', '.join(allowed)}, not '{value}'")
            try:
                msgspec.convert(value, _TYPES[name])
            except msgspec.ValidationError as exc:
                raise ConfigError(f"{name} of a schedule entry: {exc}") from exc
        if given.get("timezone"):
            zone_of(given["timezone"])
        return given


def following(app: Any, entry: ScheduleEntry, state: EntryState, count: int, now: float) -> list[float]:
    """The next instants of an entry after `now`, epoch seconds; fewer if it ends. Raises ConfigError for the
    kind `code`."""
    if entry.spec.get("kind") == "code":
        raise ConfigError(f"the schedule of the entry '{entry.name}' is code: {entry.spec.get('text')}")
    zone = zone_of(entry.timezone or app.conf.timezone)
    times, found = instants(entry.spec, zone, entry.dst), list[float]()
    at = max(round(now * 1e6), round((entry.starts_at or 0) * 1e6) - 1)
    if entry.spec["kind"] == "interval":
        # The instants of an interval count from its cursor; the first one of a new entry may be its start.
        starts_us = round((entry.starts_at or 0) * 1e6)
        at = starts_us - round(entry.spec["every_s"] * 1e6) if starts_us > now * 1e6 else at
        if state.cursor_us:
            at = max(state.cursor_us, (times.pending(state.cursor_us, at, 1)[0] or [0])[-1])
    while len(found) < count:
        following_us = times.after(at)
        if following_us is None or (entry.ends_at is not None and following_us > entry.ends_at * 1e6):
            break
        found.append(following_us / 1e6)
        at = following_us
    return found


def scheduled(found: StoredEntry) -> Scheduled:
    """A stored entry as it takes effect. Raises Malformed."""
    try:
        entry = wire.decode(found.declared, found.edited)
    except Malformed as exc:
        raise Malformed(exc.reason, f"schedule entry '{found.name}': {exc.detail}") from exc
    source = found.source if found.declared is not None else None
    edited = tuple(_fields(found.edited)) if found.declared is not None else ()
    return Scheduled(entry, found.state, source, edited, found.edited_by, found.revision)


def _fields(raw: bytes | None) -> dict[str, Any]:
    return msgspec.json.decode(raw) if raw else {}
