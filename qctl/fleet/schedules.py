"""The schedule as commands and the dashboard show it.

In:  the entries of `app.schedules` and the store's clock.  Out: one item for each entry, with its next
instant, its lateness and its counts; the schedulers that run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import msgspec

from qcore.errors import ConfigError, QcoreError
from qcore.wire import result as result_wire
from qctl.output.text import stamp

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.app.schedules import Scheduled
    from qcore.brokers.contract.records import Member

ON, PAUSED, ENDED, CODE, BROKEN = "on", "paused", "ended", "code", "broken"


class Due(NamedTuple):
    """When an entry is due: in words, its next instant (epoch seconds, None: there is none or it is not
    known), its status, and what is wrong with it."""

    text: str
    next: float | None
    status: str
    problem: str | None


#: what due() returned, by what it depends on, which many entries share
Known = dict[bytes, Due]


def due(app: App, found: Scheduled, now: float, known: Known | None = None) -> Due:
    """When an entry is due."""
    entry, known = found.entry, {} if known is None else known
    spec = entry.spec
    cursor = 0 if spec.get("kind") == "crontab" else found.state.cursor_us
    key = _encode((spec, entry.timezone, entry.starts_at, entry.ends_at, entry.enabled, entry.dst, cursor))
    when = known.get(key)
    if when is None:
        when = known[key] = Due(phrase(app, found), *next_of(app, found, now))
    return when


_encode = msgspec.json.Encoder().encode


class Items(Sequence[dict[str, Any]]):
    """One item for each entry, made when it is asked for: a table of thousands needs none."""

    def __init__(self, app: App, found: Sequence[Scheduled], dues: Sequence[Due]) -> None:
        self._app, self._found, self._dues = app, found, dues

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> Items: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | Items:
        if isinstance(place, slice):
            return Items(self._app, self._found[place], self._dues[place])
        return item(self._app, self._found[place], self._dues[place])


def item(app: App, found: Scheduled, when: Due) -> dict[str, Any]:
    """One entry. Times are RFC 3339; None: unknown, or never."""
    entry, state = found.entry, found.state
    sent = bool(state.last_sent_us)
    return {
        "name": entry.name,
        "task": entry.task,
        "schedule": when.text,
        "spec": entry.spec,
        "timezone": entry.timezone or app.conf.timezone or "UTC",
        "status": when.status,
        "problem": when.problem,
        "next_at": None if when.next is None else stamp(when.next),
        "last_at": stamp(state.last_instant_us / 1e6) if sent else None,
        "last_sent_at": stamp(state.last_sent_us / 1e6) if sent else None,
        "late_s": round(state.late_s, 3) if sent else None,
        "last_task_id": state.last_task_id or None,
        "last_by": state.last_by or None,
        "runs": state.runs,
        "missed": state.missed,
        "overlapped": state.overlapped,
        "source": found.source,
        "edited": list(found.edited),
        "edited_by": found.edited_by or None,
        "queue": entry.options.get("queue"),
        "args": entry.args,
        "kwargs": entry.kwargs,
        "options": entry.options,
        "missed_policy": entry.missed,
        "missed_most": entry.missed_most,
        "overlap_policy": entry.overlap,
        "dst_policy": entry.dst,
        "jitter_s": entry.jitter_s,
        "starts_at": None if entry.starts_at is None else stamp(entry.starts_at),
        "ends_at": None if entry.ends_at is None else stamp(entry.ends_at),
        "deadline_s": entry.deadline_s,
        "note": entry.note or None,
        "revision": found.revision,
    }


def phrase(app: App, found: Scheduled) -> str:
    """When an entry is due, in words; its spec where that is not valid (next_of() says why)."""
    from qcore.schedules.words import words

    try:
        return words(found.entry.spec, found.entry.timezone or app.conf.timezone or "")
    except (QcoreError, KeyError, TypeError, ValueError, AttributeError):
        return str(found.entry.spec)


def next_of(app: App, found: Scheduled, now: float) -> tuple[float | None, str, str | None]:
    """The next instant that will be published, the status, and what is wrong with the entry."""
    from qcore.app.schedules import following  # costly; the dashboard starts without it

    entry = found.entry
    if entry.spec.get("kind") == "code":
        return None, CODE if entry.enabled else PAUSED, None
    try:
        times = following(app, entry, found.state, 1, now)
    except (ConfigError, QcoreError) as exc:
        return None, BROKEN, str(exc)
    if not entry.enabled:
        return None, PAUSED, None
    return (times[0], ON, None) if times else (None, ENDED, None)


def within(app: App, found: Scheduled, now: float, until: float, step_s: float) -> list[float]:
    """The instants of an entry after `now` and before `until`, at most one of each step of `step_s` seconds
    of the epoch: what a time line shows. Paused entries have theirs too; empty where none can be computed."""
    from qcore.app.schedules import following

    entry, state = found.entry, found.state
    times, at, step, batch = list[float](), now, -1, 1
    while True:
        try:
            more = following(app, entry, state, batch, at)
        except QcoreError:
            return []  # next_of() says why
        every_s = entry.spec.get("every_s", step_s)
        if more and every_s < step_s and not entry.spec.get("relative"):
            end = min(until, math.inf if entry.ends_at is None else entry.ends_at)
            return _dense(more[0], end, step_s, every_s)
        for found_at in more:
            if found_at >= until:
                return times
            if int(found_at / step_s) > step:
                times.append(found_at)
                step = int(found_at / step_s)
        if len(more) < batch:
            return times
        at, batch = more[-1], min(batch * 4, 64)


def _dense(at: float, until: float, step_s: float, every_s: float) -> list[float]:
    """The first of every so many seconds in each step."""
    times = []
    while at < until:
        times.append(at)
        rest = (int(at / step_s) + 1) * step_s - at
        at += max(1, math.ceil(rest / every_s - 1e-6)) * every_s
    return times


def last_states(app: App, found: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The state of the last task of each entry, by task id: PENDING where there is no result."""
    ids = [one["last_task_id"] for one in found if one["last_task_id"]]
    try:
        metas = app.results.get(ids) if ids else []
    except QcoreError:
        return {}  # results are not kept: the state is unknown
    return {
        task_id: meta.status if meta is not None else result_wire.PENDING
        for task_id, meta in zip(ids, metas, strict=True)
    }


def schedulers(app: App) -> list[Member]:
    """The schedulers that run, by name."""
    return sorted((one for one in app.schedules.store.schedulers() if one.alive), key=lambda one: one.node)
