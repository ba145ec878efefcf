"""The entries that a project declares: `beat_schedule`, with Celery's fields and ours.

In:  the settings of an app.  Out: ScheduleEntry records, and the schedules that only the code can compute.
Before this: App.add_periodic_task() and the settings.  After this: scheduler.py declares them at the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from qcore.app.periodic import OUR_FIELDS
from qcore.errors import ConfigError, EncodeError
from qcore.schedules.classes import crontab, maybe_schedule
from qcore.schedules.specs import to_spec
from qcore.settings.values import refuse_unknown_zone
from qcore.wire import content
from qcore.wire.schedule import DST, MISSED, OVERLAP, ScheduleEntry

#: fields of an entry of beat_schedule that are Celery's
CELERY_FIELDS = ("task", "schedule", "args", "kwargs", "options", "relative")
CLEANUP = "celery.backend_cleanup"


class Declared(NamedTuple):
    """An entry, and for the kind `code` its schedule and arguments as the project made them."""

    entry: ScheduleEntry
    schedule: Any = None
    args: Any = ()
    kwargs: Any = None


@lru_cache(64)
def zone_of(name: str | None) -> tzinfo:
    """A time zone by its name, UTC without one. Raises ConfigError."""
    if not name:
        return UTC
    refuse_unknown_zone(name)
    return ZoneInfo(name)


def declared(app: Any) -> dict[str, Declared]:
    """The entries of the app's settings, by name. Raises ConfigError for an entry that is wrong."""
    entries = {**default_entries(app), **(app.conf.beat_schedule or {})}
    return {str(name): _entry(app, str(name), fields) for name, fields in entries.items()}


def default_entries(app: Any) -> dict[str, dict[str, Any]]:
    """The entry that deletes old results daily, unless results are kept for ever or expire by themselves. As
    in Celery there is one also where no results are stored."""
    if not app.conf.result_expires or app.backend.supports_autoexpire:
        return {}
    daily = {"task": CLEANUP, "schedule": crontab("0", "4", "*"), "options": {"expires": 12 * 3600}}
    return {CLEANUP: daily}


def _entry(app: Any, name: str, fields: Any) -> Declared:
    where = f"the entry '{name}' of beat_schedule"
    if not isinstance(fields, Mapping):
        fields = dict(fields) if hasattr(fields, "__iter__") else None  # a ScheduleEntry of Celery's
    if fields is None or not fields.get("task"):
        raise ConfigError(f"{where} is a mapping with the keys task and schedule")
    known = (*CELERY_FIELDS, *OUR_FIELDS)
    for key in fields:
        if key not in known and key not in ("name", "app", "last_run_at", "total_run_count"):
            near = get_close_matches(str(key), known, 1)
            raise ConfigError(
                f"{where} has the unknown key '{key}'" + (f"; did you mean {near[0]}?" if near else "")
            )
    schedule = fields.get("schedule")
    if schedule is None:
        raise ConfigError(f"{where} has no schedule")
    if isinstance(schedule, int | float | timedelta):
        schedule = maybe_schedule(schedule, bool(fields.get("relative")), app=app)
    spec = to_spec(schedule)
    zone = str(fields.get("timezone") or app.conf.timezone or "UTC")
    zone_of(zone)
    args: Any = fields.get("args") or ()
    kwargs: Any = fields.get("kwargs") or {}
    if not _is_data(args) or not _is_data(kwargs):
        spec = {"kind": "code", "text": str(spec.get("text") or repr(schedule))}
    entry = ScheduleEntry(
        name,
        str(fields["task"]),
        spec,
        [] if spec["kind"] == "code" else list(args),
        {} if spec["kind"] == "code" else dict(kwargs),
        _options(where, fields.get("options")),
        bool(fields.get("enabled", True)),
        _one_of(where, "missed", fields.get("missed", "once"), MISSED),
        int(fields.get("missed_most", 100)),
        _one_of(where, "overlap", fields.get("overlap", "run"), OVERLAP),
        seconds_of(fields.get("jitter")) or 0.0,
        instant_of(app, fields.get("start")),
        instant_of(app, fields.get("end")),
        seconds_of(fields.get("deadline")),
        zone,
        str(fields.get("note") or ""),
        _one_of(where, "dst", fields.get("dst", "auto"), DST),
    )
    if entry.deadline_s is None and spec["kind"] == "crontab":
        entry.deadline_s = app.conf.beat_cron_starting_deadline
    return Declared(entry, schedule, args, kwargs)


def evaluated(one: Declared) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of an entry; those that are functions (BeatLazyFunc) are called now, as in Celery."""
    args = one.args() if callable(one.args) else one.args
    kwargs = one.kwargs() if callable(one.kwargs) else one.kwargs or {}
    return [v() if callable(v) else v for v in args], {
        k: v() if callable(v) else v for k, v in kwargs.items()
    }


def _is_data(value: Any) -> bool:
    """Whether a scheduler that has not loaded the project can send it too."""
    if callable(value):
        return False
    found = value.values() if isinstance(value, Mapping) else value
    if any(callable(one) for one in found):
        return False
    try:
        content.to_json(list(found))
    except EncodeError:
        return False
    return True


def _options(where: str, given: Any) -> dict[str, Any]:
    """Options of apply_async() as JSON has them."""
    options: dict[str, Any] = {}
    for key, value in (given or {}).items():
        if isinstance(value, timedelta):
            value = value.total_seconds()
        elif isinstance(value, datetime):
            value = value.isoformat()
        elif hasattr(value, "name") and key == "queue":
            value = value.name  # a kombu Queue
        try:
            content.to_json(value)
        except EncodeError as exc:
            raise ConfigError(f"the option {key} in {where} cannot be stored: {exc}") from exc
        options[str(key)] = value
    return options


def _one_of(where: str, key: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigError(f"{key} in {where} is one of {', '.join(allowed)}, not {value!r}")
    return str(value)


def seconds_of(value: Any) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return None if value is None else float(value)


def instant_of(app: Any, value: Any) -> float | None:
    """A datetime, without a zone in the app's, or epoch seconds."""
    if value is None or isinstance(value, int | float):
        return value
    if not isinstance(value, datetime):
        raise ConfigError(f"start and end of an entry are datetimes, not {value!r}")
    return (
        value if value.tzinfo is not None else value.replace(tzinfo=zone_of(app.conf.timezone))
    ).timestamp()
