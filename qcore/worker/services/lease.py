"""Keep what we hold, return what the dead held, and tell the broker that we live.

A thread of its own, independent of user code: a lease must be renewed while a task computes.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from qcore.base.crashpoints import crashpoint
from qcore.brokers.base import Broker
from qcore.brokers.contract.consumer import Consumer
from qcore.errors import BrokerError

MOST_REAP_S = 10.0
MOST_IDLE_S = 30.0  # reapers do other things too, and a lease may be gone before its end
EARLY_S = 0.02  # behind the end of a lease, so that it is over then

log = logging.getLogger("qcore.worker")


class LeaseKeeper:
    """A service: renews the lease, reaps dead owners, announces the worker."""

    def __init__(
        self,
        consumer: Consumer,
        broker: Broker,
        node: str,
        instance: str,
        facts: Callable[[], dict[str, Any]],
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        """lost() is called when the lease was lost, so that waits go on under the new one."""
        self._lost = lost
        self._consumer, self._broker, self._node, self._facts = consumer, broker, node, facts
        self._instance, self._twin = instance, DuplicateNameDetector(node, instance)
        self._every_s = max(min(broker.lease_s / 3, 10.0), 0.05)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._away = False
        self.leases_lost = 0
        self.reaped = 0

    def start(self) -> None:
        self._turn(reap=True)
        self._thread = threading.Thread(target=self._serve, name="keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing; to be called after the last settle."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=3.0)
        try:
            self._broker.retire(self._node)
        except BrokerError:
            pass  # the announcement expires by itself

    def _serve(self) -> None:
        # Reaping looks at every owner; renewing only at ourselves. A dead worker's tasks must be
        # back within its lease and one second.
        next_renew = time.monotonic() + self._every_s
        next_reap = time.monotonic() + self._reap_every_s()
        while not self._stop.wait(max(min(next_renew, next_reap) - time.monotonic(), 0.0)):
            renew, reap = time.monotonic() >= next_renew, time.monotonic() >= next_reap
            self._turn(reap, renew)
            now = time.monotonic()
            if renew:
                next_renew = now + self._every_s
            next_reap = min(next_reap if not reap else now + MOST_IDLE_S, now + self._reap_every_s())

    def _reap_every_s(self) -> float:
        """Somebody looks 8 times a second, whatever the size of the fleet: with everybody at it twice a
        second, a thousand workers would keep a server busy with nothing else."""
        usual = min(max(self._every_s, 0.25), 0.5, self._every_s)
        owners, soon = self._consumer.owners, self._consumer.reap_in_s
        if soon is not None and soon > usual and not self._away:
            # All leases run on: nothing to find before the first of them can end. Renewing ours tells that
            # time too, and comes before the end of any lease that was taken since the last time.
            return soon + EARLY_S + random.uniform(0.0, min(owners / 100, 0.4))
        turn = min(owners / 8, MOST_REAP_S)
        return usual if turn <= usual else turn * random.uniform(0.5, 1.5)

    def _announce(self) -> None:
        facts = {**self._facts(), "instance": self._instance}
        if self._twin.facts:
            facts["twin"] = self._twin.facts
        self._twin.look(self._broker.announce(self._node, facts, ttl_s=max(self._every_s * 3, 2.0)))

    def _turn(self, reap: bool, renew: bool = True) -> None:
        try:
            if renew:
                crashpoint("before_renew")
                if not self._consumer.renew():
                    self.leases_lost += 1
                    reap = True  # what was held under it
                    self._lost()
                    log.warning(
                        "the lease on what this worker holds was lost (was it stopped?); "
                        "others may run those tasks again, and late outcomes are refused"
                    )
                crashpoint("renewed")
                self._announce()
            if reap:
                crashpoint("before_reap")
                count = self._consumer.reap()
                if count:
                    self.reaped += count
                    crashpoint("reaped")
                    log.warning("returned %d message(s) of dead workers to their queues", count)
            self._away = False
        except BrokerError as exc:
            if not self._away:
                log.debug("keeper: %s", exc)
            self._away = True


FORGET_AFTER = 3  # announcements without news of the other one


class DuplicateNameDetector:
    """Of one worker, which is told apart by its instance: an id that each start makes anew."""

    def __init__(self, node: str, instance: str) -> None:
        self._node, self._instance = node, instance
        self._announced = False
        self._warned: set[str] = set()
        self._unseen = 0
        self.facts: dict[str, Any] = {}  # pid and host of the other one; empty when there is none

    def look(self, replaced: dict[str, Any] | None) -> None:
        """To be called after each announcement with what it replaced."""
        first, self._announced = not self._announced, True
        other = str((replaced or {}).get("instance") or "")
        if not other or other == self._instance:
            self._unseen += 1
            if self._unseen >= FORGET_AFTER:
                self.facts = {}
            return
        if first:
            return  # perhaps of a worker that was killed, and ours is its successor
        assert replaced is not None
        self._unseen = 0
        self.facts = {"pid": replaced.get("pid"), "host": replaced.get("host")}
        if other not in self._warned:
            self._warned.add(other)
            log.warning(
                "another worker is called %s too (process %s on %s): give each a name of its own with -n; "
                "until then questions are answered twice and news of one hides the other",
                self._node,
                replaced.get("pid"),
                replaced.get("host"),
            )
