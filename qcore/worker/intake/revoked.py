"""The revoked ids that a worker knows, and when it asks the broker instead.

In:  ids from the broker and from the control bus.  Out: a set of at most MOST ids.
Few ids are known by heart, so that no task costs a question. When there are more than that, the worker asks
for each batch that it claims, until the broker has few again. What is revoked is never read whole.
Before this: control/server.py, worker/remote_control.py.  After this: worker/intake/admission.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from qcore.brokers.base import Broker

MOST = 10_000
MOST_UNASKED = 50_000  # where the broker cannot be asked about single ids
LOOK_AGAIN_S = 600.0  # how often it is seen whether there are few again


class Revoked:
    """Of one worker. add() and load() may be called by other threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.ids: set[str] = set()
        self.asks = False  # whether there are more than are known
        self._broker: Broker | None = None
        self._clock, self._again_at = clock, 0.0

    @property
    def _most(self) -> int:
        return MOST if self._broker is not None else MOST_UNASKED

    def load(self, broker: Broker) -> None:
        """What the broker remembers, the newest first; raises BrokerError."""
        self._broker = broker if broker.features.revoked_lookup else None
        self._again_at = self._clock() + LOOK_AGAIN_S
        found = broker.revoked(self._most)
        self.asks = self._broker is not None and len(found) >= self._most
        self.add(found)

    def add(self, ids: Iterable[str]) -> None:
        self.ids.update(ids)
        while len(self.ids) > self._most:
            self.asks = self._broker is not None
            self.ids.pop()

    def discard(self, ids: Iterable[str]) -> None:
        """These may run after all."""
        self.ids.difference_update(ids)

    def look_up(self, ids: Sequence[str]) -> None:
        """Learn which of these are revoked; raises BrokerError."""
        if self._broker is None:
            return
        if self._clock() >= self._again_at:
            self.ids.clear()
            self.load(self._broker)
        if self.asks:
            unknown = [one for one in ids if one not in self.ids]
            found = self._broker.revoked_among(unknown)
            # Room first: these must not be the ones that add() throws out.
            while len(self.ids) > self._most - len(found):
                self.ids.pop()
            self.ids |= found
