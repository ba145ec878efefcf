"""The order in which a consumer looks at its queues, and how it prevents starvation: of every 16 messages
that it claims, one is not the most urgent.

In:  the claimed messages.  Out: the order of the queues; how many of the next claim go to lower priorities,
and which. These turns rotate, from the least urgent priority upwards: if all went to the lowest one, those
between would starve instead. Each consumer counts for itself, and counts messages, so that claims of any size
keep the share.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcore.errors import ConfigError, did_you_mean

ONE_OF = 16
ROUND_ROBIN, SORTED, PRIORITY = "round_robin", "sorted", "priority"


class QueueOrder:
    """The queues of a consumer in the order of kombu's option `queue_order_strategy`: round_robin (a queue
    that gave a message becomes the last one), sorted by name, or priority (as they were named)."""

    def __init__(self, strategy: str = ROUND_ROBIN) -> None:
        """Raises ConfigError."""
        known = (ROUND_ROBIN, SORTED, PRIORITY)
        if strategy not in known:
            hint = did_you_mean(str(strategy), known) or f"; it is one of {', '.join(known)}"
            raise ConfigError(f"there is no queue_order_strategy '{strategy}'{hint}")
        self._strategy = strategy
        self.queues: tuple[str, ...] = ()

    @property
    def alternates(self) -> bool:
        """Whether the queues take turns."""
        return self._strategy == ROUND_ROBIN and len(self.queues) > 1

    def set_queues(self, queues: Sequence[str]) -> None:
        self.queues = tuple(sorted(queues) if self._strategy == SORTED else queues)

    def took(self, queues: Sequence[str]) -> None:
        """Messages came from these queues, in this order."""
        if self.alternates:
            last = {queue: number for number, queue in enumerate(queues)}
            self.queues = tuple(sorted(self.queues, key=lambda queue: last.get(queue, -1)))


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
