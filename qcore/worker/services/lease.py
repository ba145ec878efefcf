"""Renew this worker's lease, reap expired leases of other workers, and announce this worker to the broker.

In:  a Consumer and the worker's facts.  Out: renewals, announcements, messages returned to their queues.
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
MOST_IDLE_S = 30.0  # a reap also does other cleaning, and a lease may be lost before its end
EARLY_S = 0.02  # added to the end of a lease, so that it has expired at the reap
NEIGHBOURS_S = 1.0  # between two looks whether another worker of this host was killed

log = logging.getLogger("qcore.worker")


class LeaseKeeper:
    """A service: renews the lease, reaps expired owners, announces the worker."""

    def __init__(
        self,
        consumer: Consumer,
        broker: Broker,
        node: str,
        instance: str,
        facts: Callable[[], dict[str, Any]],
        lost: Callable[[BrokerError | None], None] = lambda exc: None,
    ) -> None:
        """facts() returns the content of the announcement. lost(None) is called when the lease was lost, so
        that the loop claims under the new one; lost(error) when it cannot be renewed."""
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
        """Stop renewing, and withdraw the announcement; to be called after the last settlement."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=3.0)
        try:
            self._broker.retire(self._node)
        except BrokerError:
            pass  # the announcement expires by itself

    def _serve(self) -> None:
        # A reap reads all owners, a renewal only this one. The tasks of a crashed worker must be back in
        # their queues one second after the end of its lease.
        next_renew = time.monotonic() + self._every_s
        next_reap = time.monotonic() + self._reap_every_s()
        while not self._stop.wait(self._pause_s(min(next_renew, next_reap))):
            renew, reap = time.monotonic() >= next_renew, time.monotonic() >= next_reap
            if not reap and self._consumer.neighbours:
                reap = self._consumer.has_ended_neighbour()
            if not renew and not reap:
                continue
            self._turn(reap, renew)
            now = time.monotonic()
            if renew:
                next_renew = now + self._every_s
            next_reap = min(next_reap if not reap else now + MOST_IDLE_S, now + self._reap_every_s())

    def _pause_s(self, until: float) -> float:
        left = max(until - time.monotonic(), 0.0)
        return min(left, NEIGHBOURS_S) if self._consumer.neighbours else left

    def _reap_every_s(self) -> float:
        """Seconds between two reaps. All workers together reap about 8 times a second, whatever the size of
        the fleet: if each of a thousand workers reaped twice a second, the server would do little else."""
        usual = min(max(self._every_s, 0.25), 0.5, self._every_s)
        owners, soon = self._consumer.owners, self._consumer.reap_in_s
        if soon is not None and soon > usual and not self._away:
            # No lease expires before `soon`, so an earlier reap finds nothing. A renewal updates `soon`, and
            # it comes before the end of any lease that began since the last renewal.
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
                    reap = True  # return what was held under the lost lease
                    self._lost(None)
                    log.warning(
                        "the lease of this worker expired (was its process stopped?); its tasks may run "
                        "again on other workers, and late outcomes are refused"
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
                self._lost(exc)
            self._away = True


FORGET_AFTER = 3  # announcements in a row that replaced none of another worker


class DuplicateNameDetector:
    """Detects a second worker running under the same node name: each would answer the other's requests and
    overwrite its announcement. `instance` is a random id of each start, which tells the two apart."""

    def __init__(self, node: str, instance: str) -> None:
        self._node, self._instance = node, instance
        self._announced = False
        self._warned: set[str] = set()
        self._unseen = 0
        self.facts: dict[str, Any] = {}  # pid and host of the other worker; empty if there is none

    def look(self, replaced: dict[str, Any] | None) -> None:
        """To be called after each announcement, with the announcement that it replaced, or None."""
        first, self._announced = not self._announced, True
        other = str((replaced or {}).get("instance") or "")
        if not other or other == self._instance:
            self._unseen += 1
            if self._unseen >= FORGET_AFTER:
                self.facts = {}
            return
        if first:
            return  # perhaps left by a killed worker that this one replaces
        assert replaced is not None
        self._unseen = 0
        self.facts = {"pid": replaced.get("pid"), "host": replaced.get("host")}
        if other not in self._warned:
            self._warned.add(other)
            log.warning(
                "another worker is also named %s (process %s on %s): give each its own name with -n; "
                "until then control requests get two replies and monitors show one worker",
                self._node,
                replaced.get("pid"),
                replaced.get("host"),
            )
