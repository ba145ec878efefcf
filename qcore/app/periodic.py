"""`App.add_periodic_task()`: entries of the setting beat_schedule, from calls.

In:  a schedule, and a task or a signature.  Out: an entry, as schedule_entries.py reads it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from qcore.app.sources import CONFIG_MODULE, settings_of, traced
from qcore.base.keywords import check_call, unknown_to_calls
from qcore.errors import did_you_mean
from qcore.settings.config import Config
from qcore.tasks.signature import Signature, signature
from qcore.tasks.task import Task

#: fields of an entry of beat_schedule that Celery does not have
OUR_FIELDS = (
    *(
        "enabled",
        "missed",
        "missed_most",
        "overlap",
        "jitter",
        "start",
        "end",
        "deadline",
        "timezone",
        "dst",
        "note",
    ),
)

log = logging.getLogger("qcore.beat")


class PeriodicTasks:
    """The part of an app that has to do with time: the clock of its zone, periodic tasks."""

    conf: Config
    namespace: str | None
    #: periodic tasks that were added before the settings were read
    _declared_early: tuple[tuple[str, dict[str, Any], bool], ...] = ()

    @property
    def timezone(self) -> tzinfo:
        """The time zone of the setting timezone; UTC by default."""
        from zoneinfo import ZoneInfo  # 6 ms, rarely needed

        zone = self.conf.timezone
        return ZoneInfo(zone) if zone else UTC

    def now(self) -> datetime:
        """The time in that zone."""
        return datetime.now(UTC).astimezone(self.timezone)

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **opts: Any,
    ) -> str:
        """Add an entry to the setting beat_schedule. Returns its name, by default the signature as text.

        sig: a task, or a signature, whose options and arguments count; args come before its own. opts:
        options of apply_async(), and the fields of an entry that are qcore's (overlap, missed, jitter, …).
        Before the settings are read the entry is kept, and added when they are.
        """
        if not isinstance(sig, Task | Mapping):
            raise TypeError(f"add_periodic_task() takes a task or a signature, not {sig!r:.80}")
        call = Signature(sig.name, app=sig.app) if isinstance(sig, Task) else signature(sig, app=self)  # type: ignore[arg-type]
        call = call.clone(args, dict(kwargs or {}))
        key = name or repr(call)
        own = {field: opts.pop(field) for field in OUR_FIELDS if field in opts}
        check_call(opts)
        for unknown in unknown_to_calls(opts):
            if near := did_you_mean(unknown, OUR_FIELDS):
                raise TypeError(f"add_periodic_task() has no keyword '{unknown}'{near}")
        entry = {
            "schedule": schedule,
            "task": call.task,
            "args": call.args,
            "kwargs": call.kwargs,
            "options": {**call.options, **opts},
            **own,
        }
        if self.conf.is_loaded:
            self._declare(key, entry, name is not None)
        else:
            self._declared_early = (*self._declared_early, (key, entry, name is not None))
        return key

    def _declare(self, key: str, entry: dict[str, Any], is_named: bool) -> None:
        entries = self.conf.beat_schedule or {}
        if key in entries and not is_named:
            log.warning("the periodic task %s replaces another one; give each a name to keep both", key)
        self.conf["beat_schedule"] = {**entries, key: entry}

    def _settings_otherwise(self) -> Mapping[str, Any] | None:
        """The settings of an app that names no source: of the module in CELERY_CONFIG_MODULE."""
        name = os.environ.get(CONFIG_MODULE)
        return settings_of(name, self.namespace, silent=False) if name else None

    def _after_configure(self) -> None:
        """Called when the first setting is read."""
        traced(self.conf)
        early, self._declared_early = self._declared_early, ()
        for one in early:
            self._declare(*one)
