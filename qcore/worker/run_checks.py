"""What the loop checks while tasks run: events of waiting and started tasks, hard time limits.

In:  the deliveries in flight and the runs of the pool.  Out: events, the state STARTED, kills.
Before this: loop.py, in each turn.  After this: services/reporting.py, settling/durable.py, the pool.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Mapping

from qcore.base.times import epoch_of
from qcore.execution.run import ignores_result
from qcore.pools.base import Pool
from qcore.settings.config import Config
from qcore.wire.outcome import End
from qcore.worker.in_flight import InFlight
from qcore.worker.services.reporting import TaskReporter
from qcore.worker.settling.durable import ResultOutbox

log = logging.getLogger("qcore.worker")

#: shorter runs get no started event; also the interval of the checks, seconds
EVERY_S = 0.02


class RunChecks:
    """Belongs to the loop's thread. in_flight is the loop's own table, by delivery number."""

    def __init__(
        self,
        node: str,
        in_flight: Mapping[int, InFlight],
        pool: Pool,
        reporter: TaskReporter,
        outbox: ResultOutbox,
        ttl_s: float | None,
        tracks_started: bool,
    ) -> None:
        """ttl_s: how long the state STARTED is kept; tracks_started: whether any task wants it stored."""
        self._node, self._in_flight, self._pool = node, in_flight, pool
        self._reporter, self._outbox, self._ttl_s = reporter, outbox, ttl_s
        self._tracks_started = tracks_started
        self._limited: set[int] = set()  # numbers of deliveries with a hard time limit
        self._next = 0.0  # monotonic

    def limit(self, number: int, held: InFlight, hard_s: float) -> None:
        """This delivery was admitted, and has a hard time limit."""
        held.hard_s = hard_s
        self._limited.add(number)

    def remove(self, number: int) -> None:
        """This delivery is not in flight any more."""
        self._limited.discard(number)

    def at_a_loss(self, conf: Config) -> Callable[[], None] | None:
        """What is to be done when the connection to the broker is lost."""
        return self._cancel_late if conf.worker_cancel_long_running_tasks_on_connection_loss else None

    def _cancel_late(self) -> None:
        """End the runs that are not acknowledged; their messages are delivered again."""
        for run in self._pool.running():
            held = self._in_flight.get(run.number)
            if held is None or not held.late or held.acked or held.killing:
                continue
            if self._pool.kill(run.number, End.CANCELLED, signal.SIGKILL):
                held.killing = True
                self._reporter.started(held, epoch_of(run.since), run.pid)
                self._reporter.cancelled(held)
            else:
                log.warning("the %s pool cannot cancel %s", self._pool.name, held.message.id)

    def are_needed(self) -> bool:
        """Whether the loop must wake up for them."""
        watched = self._tracks_started or self._reporter.watches or self._reporter.events.tasks_on
        return bool(self._limited or (self._in_flight and watched))

    def look(self, now: float) -> None:
        """Check, unless the last check was less than EVERY_S ago; `now` is monotonic."""
        if now < self._next or not self._in_flight:
            return
        self._next = now + EVERY_S
        if self._reporter.events.tasks_on:
            for one in self._in_flight.values():
                if now - one.came_at > EVERY_S:
                    self._reporter.waits(one)
        for run in self._pool.running():
            held = self._in_flight.get(run.number)
            if held is None:
                continue
            if not held.said_started and now - run.since > EVERY_S:
                self._reporter.started(held, epoch_of(run.since), run.pid)
                if held.task.track_started and not ignores_result(held.task, held.message):
                    self._outbox.started(held, run.pid, self._node, self._ttl_s)
            if held.hard_s and now - run.since > held.hard_s and not held.killing:
                held.killing = self._pool.kill(run.number, End.TIME_LIMIT, signal.SIGKILL)
