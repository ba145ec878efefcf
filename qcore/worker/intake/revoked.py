"""The revoked ids that a worker holds in memory, and its lookups at the broker.

In:  ids from the broker and from control requests.  Out: a set of at most MOST ids.
Up to MOST ids are held in memory, so that no task costs a request. If the broker has more, the worker looks
up each batch that it claims, until the broker has fewer again. The list is never read whole.
Before this: control/server.py, worker/remote_control.py.  After this: worker/intake/admission.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from qcore.brokers.base import Broker

MOST = 10_000
MOST_UNASKED = 50_000  # where the broker has no lookup of single ids
LOOK_AGAIN_S = 600.0  # seconds between two reloads, which may end the lookups


class Revoked:
    """The revoked ids of one worker. Other threads may call add(), load() and discard()."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.ids: set[str] = set()
        self.asks = False  # whether the broker has more ids than this set, so that batches are looked up
        self._broker: Broker | None = None
        self._clock, self._again_at = clock, 0.0

    @property
    def _most(self) -> int:
        return MOST if self._broker is not None else MOST_UNASKED

    def load(self, broker: Broker) -> None:
        """Add the ids that the broker keeps, at most as many as fit; raises BrokerError."""
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
        """Remove ids: these tasks may run."""
        self.ids.difference_update(ids)

    def look_up(self, ids: Sequence[str]) -> None:
        """Add those of these ids that the broker lists as revoked; raises BrokerError."""
        if self._broker is None:
            return
        if self._clock() >= self._again_at:
            self.ids.clear()
            self.load(self._broker)
        if self.asks:
            unknown = [one for one in ids if one not in self.ids]
            found = self._broker.revoked_among(unknown)
            # Remove others first: a later add() must not drop the ids that were just looked up.
            while len(self.ids) > self._most - len(found):
                self.ids.pop()
            self.ids |= found
