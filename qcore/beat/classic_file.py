"""The scheduler class that keeps the state of its entries in a file, as Celery's PersistentScheduler.

In:  `beat_schedule`, and the file (a shelf of Python's) of the last run.  Out: published tasks, and the file.
The format is Celery's: its entries, and the time zone and the setting enable_utc that their times mean.
"""

from __future__ import annotations

import logging
import shelve
from pathlib import Path
from typing import Any

from qcore.beat.classic_scheduler import Scheduler

log = logging.getLogger("qcore.beat")

#: the version in the file: that of Celery with this format
_VERSION = "5.7.0"
#: other settings than those of the file make the times in it meaningless
_KEYS = ("__version__", "tz", "utc_enabled")


class PersistentScheduler(Scheduler):
    """A Scheduler whose entries are in a shelf."""

    persistence: Any = shelve
    #: what the libraries behind a shelf add to its name
    known_suffixes = ("", ".db", ".dat", ".bak", ".dir")
    _store: Any = None

    def __init__(self, app: Any, *args: Any, schedule_filename: str | None = None, **kwargs: Any) -> None:
        self.schedule_filename = str(schedule_filename or app.conf.beat_schedule_filename)
        super().__init__(app, *args, **kwargs)

    def setup_schedule(self) -> None:
        self._store = self._opened()
        conf = self.app.conf
        now = {"__version__": _VERSION, "tz": conf.timezone, "utc_enabled": conf.enable_utc}
        self._forget_if_changed(now)
        self._store.setdefault("entries", {})
        self.merge_inplace(conf.beat_schedule or {})
        self.install_default_entries(self.schedule)
        self._store.update(now)
        self.sync()
        log.debug("the entries: %r", list(self.schedule.values()))

    def _opened(self) -> Any:
        """The file, open, or a new one in the place of one that cannot be read."""
        try:
            store = self._open_schedule()
            store.get("entries")
            return store
        except Exception as exc:
            # The libraries behind a shelf have no common class of errors, and unpickling raises anything.
            return self._destroy_open_corrupted_schedule(exc)

    def _open_schedule(self) -> Any:
        return self.persistence.open(self.schedule_filename, writeback=True)

    def _destroy_open_corrupted_schedule(self, exc: Exception) -> Any:
        log.error("the schedule file '%s' cannot be read and is made anew: %r", self.schedule_filename, exc)
        self._remove_db()
        return self._open_schedule()

    def _remove_db(self) -> None:
        for suffix in self.known_suffixes:
            Path(self.schedule_filename + suffix).unlink(missing_ok=True)

    def _forget_if_changed(self, now: dict[str, Any]) -> None:
        store = self._store
        if "entries" not in store:
            return
        for key in _KEYS:
            if key not in store:
                log.warning("the schedule file is of an older version: every entry starts anew")
            elif key != "__version__" and store[key] != now[key]:
                log.warning(
                    "the time zone of the schedule file has changed (%s: %r, now %r): all entries start anew",
                    key,
                    store[key],
                    now[key],
                )
            else:
                continue
            store.clear()
            return

    def get_schedule(self) -> Any:
        return self._store["entries"]

    def set_schedule(self, schedule: Any) -> None:
        self._store["entries"] = schedule

    def sync(self) -> None:
        if self._store is not None:
            self._store.sync()

    def close(self) -> None:
        try:
            super().close()
        finally:
            if self._store is not None:
                self._store.close()

    @property
    def info(self) -> str:
        return f"    . db -> {self.schedule_filename}"
