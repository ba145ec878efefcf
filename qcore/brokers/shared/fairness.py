"""Nothing waits for ever: of every 16 messages that a consumer takes, one is not the most urgent.

In:  how many messages were taken.  Out: how many of the next claim go to what is less urgent, and where.
The turns go round, from the least urgent upwards: were they all for the lowest priority, those between
would wait for ever instead. Counted by each consumer for itself, and by messages, so that claims of any
size keep the share.
"""

from __future__ import annotations

ONE_OF = 16


class Turns:
    def __init__(self) -> None:
        self._owed = 0
        self._taken = 0

    def due(self, limit: int) -> int:
        """How many of the next `limit` messages are for what is less urgent."""
        return min(limit, self._owed // ONE_OF)

    def took(self, count: int) -> None:
        """A claim brought so many; as many turns were taken in it as were due."""
        self._owed = self._owed - ONE_OF * self.due(count) + count

    def next_of(self, places: int) -> int:
        """Which of so many places that have messages, the most urgent first, has this turn: each but the
        first, the last foremost."""
        self._taken += 1
        return places - 1 - (self._taken - 1) % (places - 1) if places > 1 else 0
