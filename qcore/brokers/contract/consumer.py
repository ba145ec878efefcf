"""The consumer half of the broker contract: claim, settle, wait, close."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from qcore.brokers.contract.records import Delivery, Settlement


class Consumer(ABC):
    """One owner of deliveries on the queues it consumes.

    The caller's loop:  arm(); select on fds() for at most idle_s(); wake(fd) for each readable one,
    which may return a delivery; else claim(); … settle().  arm() when there are free slots and nothing
    was claimable; disarm() when full.
    """

    queues: tuple[str, ...]
    #: how long outcomes of short tasks may wait to be settled together while all slots are busy (seconds),
    #: for drivers whose settlements have no answer, as waiting for that answer is what forms batches
    gather_s: float = 0.0
    #: how many owners the last reap() found, itself included; 1 where a check for dead owners costs nothing
    owners: int = 1
    #: seconds until reap() can find something, as of the last renew() or reap(); None: unknown. Leases that
    #: others took since then end later, unless they are shorter than ours
    reap_in_s: float | None = None

    @property
    def neighbours(self) -> int:
        """How many other processes of this host it knows that hold deliveries, as of the last renew()."""
        return 0

    def has_ended_neighbour(self) -> bool:
        """Whether one of them has ended without close(): the next reap() need not wait for its lease. Asks
        the system alone. Any thread."""
        return False

    @abstractmethod
    def claim(self, limit: int) -> list[Delivery]:
        """Claim up to `limit` messages, without waiting. Due delayed messages first become ready.
        Never decodes: any bytes are returned. Raises BrokerDown."""

    @abstractmethod
    def settle(self, settlements: Sequence[Settlement]) -> list[int]:
        """Settle deliveries in one round trip; returns the numbers that were refused because they are
        no longer held. Idempotent: a second settlement is refused. Raises BrokerDown, after which the
        whole batch may be tried again."""

    def turn(self, settlements: Sequence[Settlement], limit: int) -> tuple[list[int], list[Delivery]]:
        """settle() and then claim(), in one round trip where the driver supports it: the refused numbers
        and the claimed deliveries. After BrokerDown both may be tried again."""
        return self.settle(settlements), self.claim(limit)

    @abstractmethod
    def set_queues(self, queues: Sequence[str]) -> None:
        """Consume from these queues from now on, in this order of preference. Declares them."""

    def fds(self) -> list[int]:
        """File descriptors that become readable when claim() may return something."""
        return []

    def arm(self) -> None:
        """Request wake-ups. Costs nothing when already armed."""

    def disarm(self) -> None:
        """Stop taking messages by wake-ups; what a wake-up already took is requeued or held."""

    def wake(self, fd: int) -> Sequence[Delivery]:
        """Handle a readable descriptor of fds(). Returns the deliveries it already received, for a consumer
        that held none; when empty, claim() may return something."""
        return ()

    def idle_s(self) -> float:
        """Seconds until claim() should be tried again without a wake-up: until the nearest due delayed
        message, or the driver's fallback poll interval."""
        return 1.0

    def prefetch(self, count: int) -> None:
        """Hold at most `count` deliveries at once (a hint; AMQP needs it)."""

    def look_ahead(self, count: int) -> None:
        """Tasks are so short now that `count` deliveries are done in no time: as many may be held at once, if
        that is more than prefetch() said. 0: no longer (a hint; AMQP needs it)."""

    @abstractmethod
    def renew(self) -> bool:
        """Extend the lease of all held deliveries. False: the lease was lost, and with it every
        delivery held until now (claim and settle continue under a new lease). Any thread."""

    @abstractmethod
    def reap(self) -> int:
        """Requeue the messages of dead owners, flagged redelivered and counted. Returns the number of
        messages. Any thread; any number of processes at once."""

    @abstractmethod
    def reconnect(self) -> None:
        """Connect again after BrokerDown. Deliveries stay held where the driver has leases;
        elsewhere later settlements of older deliveries are refused. Raises BrokerDown."""

    @abstractmethod
    def close(self) -> None:
        """Requeue all held deliveries that are not settled (not flagged) and stop."""
