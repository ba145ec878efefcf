"""Relaxed durability: commits return before they are on disk, and are synced within about a second.

In:  `?durability=relaxed` in the URL, and word of each commit.  Out: a sync of the write-ahead log, SYNC_S
after the first commit that it does not have yet.
A commit is in the memory of the operating system when it returns, so a process that is killed loses nothing.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from qcore.errors import ConfigError, did_you_mean, mask_url

#: seconds from a commit to the sync that it waits for
SYNC_S = 1.0
#: seconds without a commit after which the thread ends
IDLE_S = 5.0
FULL, RELAXED = "full", "relaxed"
WORDS = "durability=relaxed: a power failure may lose what was confirmed in about the last second"

log = logging.getLogger("qcore.broker")


def durability_of(url: str) -> str:
    """What the URL of a file says, FULL if nothing; raises ConfigError."""
    found = FULL
    for name, value in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if name != "durability":
            near = did_you_mean(name, ["durability"])
            raise ConfigError(f"an sqlite:// URL has no option '{name}'{near}: {mask_url(url)}")
        if value not in (FULL, RELAXED):
            raise ConfigError(f"durability={value!r:.40} in the broker URL; it is {FULL} or {RELAXED}")
        found = value
    return found


class DelayedSync:
    """Syncs the write-ahead log of one file from a thread of its own."""

    def __init__(self, path: Path) -> None:
        # The log has none of SQLite's locks, which closing a descriptor of the file itself would release.
        self._log = f"{path}-wal"
        self._lock = threading.Lock()
        self._due = threading.Event()
        self._thread: threading.Thread | None = None
        _all.add(self)

    def committed(self) -> None:
        """There is a commit to sync."""
        if self._due.is_set():
            return  # the sync comes after this commit
        with self._lock:
            self._due.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="qcore-sync", daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        while True:
            if not self._due.wait(IDLE_S):
                with self._lock:
                    if not self._due.is_set():
                        self._thread = None
                        return
            time.sleep(SYNC_S)
            self.sync()

    def sync(self) -> None:
        """Sync what was committed; a failure is logged."""
        if not self._due.is_set():
            return
        self._due.clear()  # first: what is committed from now on waits for the next sync
        try:
            number = os.open(self._log, os.O_RDONLY)
        except FileNotFoundError:
            return  # the last connection was closed, which has synced the file itself
        except OSError as exc:
            log.error("%s was not synced to disk: %s", self._log, exc)
            return
        try:
            os.fsync(number)
        except OSError as exc:
            log.error("%s was not synced to disk: %s", self._log, exc)
        finally:
            os.close(number)


_all: weakref.WeakSet[DelayedSync] = weakref.WeakSet()


@atexit.register
def _sync_all() -> None:
    for one in list(_all):
        one.sync()
