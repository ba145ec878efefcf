"""Celery's BeatPidbox: a scheduler answers `inspect ping` as a node of its own, as long as it ticks.

In:  a service with app, hostname, max_interval and the time of its last tick.  Out: replies to ping; all
other requests are for workers and get no reply.
Before this: service.py, classic.py.  After this: control/server.py.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

from qcore.base.times import new_id
from qcore.control.authorization import Authorizer
from qcore.control.server import ControlServer
from qcore.errors import BrokerError
from qcore.wire import control as wire

log = logging.getLogger("qcore.beat")

#: seconds between two ticks of a scheduler that has no interval of its own
DEFAULT_MAX_INTERVAL_S = 300.0


def beat_nodename(hostname: str | None = None) -> str:
    """The name of a scheduler's node: `celerybeat@host`; %h, %n and %d are as in the name of a worker."""
    host = socket.gethostname()
    name, _, domain = host.partition(".")
    text = (hostname or host).replace("%h", host).replace("%n", name).replace("%d", domain)
    return text if "@" in text else f"celerybeat@{text}"


class BeatPidbox:
    """start() begins to answer, in a thread; stop() ends it. service: a celery.beat.Service, or one with its
    attributes app, hostname, max_interval, effective_max_interval and _last_tick."""

    #: the shortest time without a tick, in seconds, after which a scheduler is silent
    min_tick_age = 60.0

    def __init__(self, service: Any) -> None:
        """Raises ConfigError for malformed control keys."""
        self.service, self.app = service, service.app
        self.hostname = self.node = beat_nodename(service.hostname)
        # What a ControlServer needs of a worker:
        self.instance, self.request_clock = new_id(), 0
        self._server, self._has_started = _Answers(self), False

    @property
    def max_tick_age(self) -> float:
        """Seconds without a tick after which it does not answer; 0: it always answers."""
        age: float | None = self.app.conf.beat_remote_control_max_tick_age
        if age is not None:
            return age
        own = self.service.effective_max_interval or self.service.max_interval or DEFAULT_MAX_INTERVAL_S
        return max(2.0 * float(own), self.min_tick_age)

    def tick_age(self) -> float | None:
        """Seconds since the last tick; None before the first."""
        last: float | None = self.service._last_tick
        return None if last is None else time.monotonic() - last

    def is_stale(self) -> bool:
        """Whether the last tick is too long ago."""
        most, age = self.max_tick_age, self.tick_age()
        return bool(most) and age is not None and age > most

    def start(self) -> None:
        """Subscribe; while the broker is away it is tried again."""
        if not self.app.broker.features.fanout:
            log.warning("the broker has no broadcasts: the scheduler answers no control requests")
            return
        self._server.start()
        self._has_started = True

    def stop(self) -> None:
        if self._has_started:
            self._server.stop()

    def load_revoked(self, broker: Any) -> None:
        """A scheduler runs no tasks."""


class _Answers(ControlServer):
    def __init__(self, beat: BeatPidbox) -> None:
        super().__init__(beat.app, beat, Authorizer(beat.app.conf))  # type: ignore[arg-type]  # ping needs no more
        self._beat = beat

    def _first_listen(self) -> None:
        try:
            self._listen()
        except BrokerError as exc:
            log.error("%s: %s; it is tried again", self._beat.node, exc)

    def _is_answered(self, request: wire.Request) -> bool:
        if request.method != "ping":
            return False
        if self._beat.is_stale():
            age, most = self._beat.tick_age(), self._beat.max_tick_age
            log.warning("ping is not answered: the last tick was %.1f s ago, which is over %g s", age, most)
            return False
        return True
