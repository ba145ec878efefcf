"""An outage of the broker or of the result store: its start, and the back-off of the next try."""

from __future__ import annotations

import logging
import time

from qcore.errors import BrokerError

BACKOFF_LEAST_S, BACKOFF_MOST_S = 0.1, 2.0

log = logging.getLogger("qcore.worker")


class Outage:
    """The state of one server; `since` is the start of its outage, None while it is available."""

    def __init__(self, what: str = "the broker") -> None:
        self.what = what
        self.since: float | None = None  # monotonic
        self.worked_at = time.monotonic()
        self._retry_at = 0.0
        self._backoff_s = BACKOFF_LEAST_S

    def begins(self, exc: BrokerError) -> None:
        """Record a failure. Each failure in a row doubles the back-off, up to BACKOFF_MOST_S."""
        now = time.monotonic()
        if self.since is None:
            self.since = now
            if self._backoff_s == BACKOFF_LEAST_S:  # else no operation succeeded since the last log line
                log.error("%s is unreachable: %s; running tasks continue, reconnecting", self.what, exc)
        self._retry_at = now + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_MOST_S)

    def ends(self) -> None:
        """The connection is open again. Call works() after the first successful operation."""
        log.info("connected to %s again after %.1f s", self.what, self.down_for_s())
        self.since = None

    def works(self) -> None:
        """An operation succeeded: reset the back-off."""
        self.worked_at = time.monotonic()
        self._backoff_s = BACKOFF_LEAST_S

    def down_for_s(self) -> float:
        return time.monotonic() - self.since if self.since is not None else 0.0

    def left_s(self) -> float:
        """Seconds until the next try."""
        return max(self._retry_at - time.monotonic(), 0.0)
