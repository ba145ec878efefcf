"""The incident of the simulated fleet: a deploy, a task that fails, a queue that grows, recovery.

In:  the seconds since the fleet began.  Out: whether the bad version runs; the messages that wait in a
queue of the demonstration's broker. Before this: fleet_events.py and fleet_publisher.py ask what is broken.

It comes again every two minutes. The last worker falls silent meanwhile (fleet_events.py).
"""

from __future__ import annotations

import itertools
import logging
import threading
import time

from qcore.app.app import App
from qcore.errors import QcoreError

log = logging.getLogger(__name__)

#: seconds after the beginning of each round: the deploy, its first failure, the deploy of the old version
DEPLOY_S, FAILS_S, REPAIRED_S, EVERY_S = 14.0, 17.0, 70.0, 120.0
#: the task that the new version breaks, its queue, its failure rate, and what it raises (of ERRORS)
TASK, QUEUE, FAILS, ERROR = "shop.charge", "payments", 0.7, 0
#: so many workers are restarted by a deploy
RESTARTED = 2
#: messages that arrive and that are taken too little, per second; and that are taken afterwards
GROWS, SHRINKS = 6, 15


def deploys(age_s: float) -> int:
    """The number of deploys so far: each round has a bad one and its repair."""
    rounds, second = divmod(max(age_s, 0.0), EVERY_S)
    return int(rounds) * 2 + (second >= DEPLOY_S) + (second >= REPAIRED_S)


def is_broken(age_s: float) -> bool:
    """Whether the bad version runs."""
    return age_s >= 0 and FAILS_S <= age_s % EVERY_S < REPAIRED_S


class Backlog:
    """Keeps messages in the queue: more while the bad version runs, fewer afterwards."""

    def __init__(self, url: str) -> None:
        self.app = App("shop", broker=url, set_as_current=False)
        self._began = time.monotonic()
        self._stopped = threading.Event()
        self._numbers = itertools.count(1)
        self._thread = threading.Thread(target=self._run, name="demo-backlog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(2.0)
        self.app.close()

    def _run(self) -> None:
        while not self._stopped.wait(1.0):
            try:
                self.step(time.monotonic() - self._began)
            except QcoreError as exc:
                log.warning("the demonstration's backlog was not changed: %s", exc)

    def step(self, age_s: float) -> None:
        """What happens within a second. Raises QcoreError."""
        if is_broken(age_s):
            self.app.send_many(
                [self.app.signature(TASK, (next(self._numbers), 1999)).set(queue=QUEUE) for _ in range(GROWS)]
            )
        else:
            administration = self.app.broker.administration
            administration.drop_these(list(itertools.islice(administration.waiting(QUEUE), SHRINKS)))
