"""An outage of the broker or of the result store: its start, and the back-off of the next try.

In:  failures and successes of operations.  Out: when to try again; reach() returns when the broker answers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from qcore.errors import BrokerDown, BrokerError

BACKOFF_LEAST_S, BACKOFF_MOST_S = 0.1, 2.0

#: brokers on this host, for which nobody waits
_HERE = ("sqlite:", "memory:")

log = logging.getLogger("qcore.worker")


def reach(app: Any, pause: Callable[[float], None] = time.sleep) -> None:
    """Return when the broker of `app` answers, which a process does that starts. Raises BrokerDown when the
    setting broker_connection_retry (_on_startup) is false, and after broker_connection_max_retries."""
    conf = app.conf
    retry = conf.broker_connection_retry_on_startup
    if retry is None:
        retry = conf.broker_connection_retry
    most, tries = conf.broker_connection_max_retries or None, 0
    while True:
        try:
            app.broker.check()
            return
        except BrokerDown as exc:
            tries += 1
            if not retry or app.broker_url().startswith(_HERE) or (most is not None and tries > most):
                raise
            if _is_certificate(exc):
                raise  # which does not mend itself
            wait_s = min(2.0 * tries, 30.0)  # Celery's intervals
            of = "" if most is None else f" of {most}"
            log.error("%s; try %d%s to connect follows in %.0f s", exc, tries, of, wait_s)
            pause(wait_s)


def _is_certificate(error: BaseException | None) -> bool:
    """Whether the certificate of the server was refused. By name: ssl is not imported without TLS."""
    while error is not None:
        if type(error).__name__ == "SSLCertVerificationError":
            return True
        error = error.__cause__ or error.__context__
    return False


class Outage:
    """The state of one server; `since` is the start of its outage, None while it is available."""

    def __init__(
        self,
        what: str = "the broker",
        lost: Callable[[], None] | None = None,
        give_up: Callable[[], None] | None = None,
    ) -> None:
        """lost: called when an outage begins; give_up: when the first one does, to end the worker."""
        self.what, self._lost, self._give_up = what, lost, give_up
        self.gave_up = False
        self.count = 0  # how many there were
        self.since: float | None = None  # monotonic
        self.worked_at = time.monotonic()
        self._retry_at = 0.0
        self._backoff_s = BACKOFF_LEAST_S
        self._is_logged = False  # as an error, so its end is a warning: who sees the one sees the other

    def begins(self, exc: BrokerError) -> None:
        """Record a failure. Each failure in a row doubles the back-off, up to BACKOFF_MOST_S."""
        now = time.monotonic()
        if self.since is None:
            self.since = now
            self.count += 1
            if self._backoff_s == BACKOFF_LEAST_S:  # else no operation succeeded since the last log line
                log.error("%s is unreachable: %s; %s, reconnecting", self.what, exc, self._meanwhile())
                self._is_logged = True
            if self._give_up is not None and isinstance(exc, BrokerDown) and not self.gave_up:
                self.gave_up = True
                log.critical("the setting broker_connection_retry is false: the worker ends")
                self._give_up()
            if self._lost is not None and isinstance(exc, BrokerDown):
                self._lost()
        self._retry_at = now + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_MOST_S)

    def _meanwhile(self) -> str:
        return "running tasks continue" if self._lost is None else "tasks acknowledged late are cancelled"

    def noticed(self, exc: BrokerError) -> None:
        """Another thread has failed: what is to be done at a loss cannot wait for the next operation."""
        if (self._lost or self._give_up) and self.since is None:
            self.begins(exc)

    def ends(self) -> None:
        """The connection is open again. Call works() after the first successful operation."""
        level = logging.WARNING if self._is_logged else logging.INFO
        log.log(level, "connected to %s again after %.1f s", self.what, self.down_for_s())
        self.since, self._is_logged = None, False

    def works(self) -> None:
        """An operation succeeded: reset the back-off."""
        self.worked_at = time.monotonic()
        self._backoff_s = BACKOFF_LEAST_S

    def down_for_s(self) -> float:
        return time.monotonic() - self.since if self.since is not None else 0.0

    def left_s(self) -> float:
        """Seconds until the next try."""
        return max(self._retry_at - time.monotonic(), 0.0)
