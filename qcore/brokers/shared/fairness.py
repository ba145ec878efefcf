"""Prevent starvation: of every 16 messages that a consumer claims, one is not the most urgent.

In:  the number of claimed messages.  Out: how many of the next claim go to lower priorities, and which.
These turns rotate, from the least urgent priority upwards: if all went to the lowest one, those between
would starve instead. Each consumer counts for itself, and counts messages, so that claims of any size
keep the share.
"""

from __future__ import annotations

ONE_OF = 16


class PriorityFairness:
    def __init__(self) -> None:
        self._owed = 0
        self._taken = 0

    def due(self, limit: int) -> int:
        """How many of the next `limit` messages are for lower priorities."""
        return min(limit, self._owed // ONE_OF)

    def took(self, count: int) -> None:
        """Record a claim of `count` messages; the turns that were due in it are used up."""
        self._owed = self._owed - ONE_OF * self.due(count) + count

    def next_of(self, places: int) -> int:
        """The index of the place that has this turn, among `places` with messages, most urgent first: each
        except the first in rotation, starting at the last."""
        self._taken += 1
        return places - 1 - (self._taken - 1) % (places - 1) if places > 1 else 0
