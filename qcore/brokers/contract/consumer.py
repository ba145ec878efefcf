"""The consumer half of the broker contract: claim, settle, wait, leave."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from qcore.brokers.contract.records import Delivery, Settlement


class Consumer(ABC):
    """One owner of deliveries on the queues it was opened for.

    The loop of its user:  arm(); select on fds() for at most idle_s(); wake(fd) for each ready one,
    which may bring a delivery; else claim(); … settle().  arm() when there is room and nothing was
    claimable; disarm() when full.
    """

    queues: tuple[str, ...]
    #: how long outcomes of short tasks may wait for each other while all slots are busy (seconds), where
    #: settling is not answered and so would never come in batches
    gather_s: float = 0.0
    #: how many owners the last reap() found, itself among them; 1 where looking at them costs nothing
    owners: int = 1
    #: in how many seconds reap() can find something, as the last renew() or reap() saw it; None: nobody
    #: knows. Leases that others took since then end later, if they are not shorter than ours
    reap_in_s: float | None = None

    @abstractmethod
    def claim(self, limit: int) -> list[Delivery]:
        """Take up to `limit` messages, without waiting. Due delayed messages first become ready.
        Never decodes: any bytes are handed out. Raises BrokerDown."""

    @abstractmethod
    def settle(self, settlements: Sequence[Settlement]) -> list[int]:
        """End deliveries in one round trip; returns the numbers that were refused because they are
        not ours any more. Idempotent: settling twice refuses the second. Raises BrokerDown, after
        which the whole batch may be tried again."""

    def turn(self, settlements: Sequence[Settlement], limit: int) -> tuple[list[int], list[Delivery]]:
        """settle() and then claim(), in one round trip where the driver can: what was refused, what
        was claimed. After BrokerDown both may be tried again."""
        return self.settle(settlements), self.claim(limit)

    @abstractmethod
    def set_queues(self, queues: Sequence[str]) -> None:
        """Consume from these from now on, in this order of preference. Declares them."""

    def fds(self) -> list[int]:
        """File descriptors that become readable when claim() may have something."""
        return []

    def arm(self) -> None:
        """Ask to be woken. Costs nothing when already armed."""

    def disarm(self) -> None:
        """Do not take anything by waking; what a wake-up already took is given back or held."""

    def wake(self, fd: int) -> Sequence[Delivery]:
        """A descriptor of fds() is readable. What this already brought, for a consumer that held
        nothing; when it brings nothing, claim() may have something."""
        return ()

    def idle_s(self) -> float:
        """The longest time until claim() should be tried again although nothing woke us:
        the nearest due delayed message, or the driver's safety net. Seconds."""
        return 1.0

    def prefetch(self, count: int) -> None:
        """At most `count` deliveries will be held at once (a hint; AMQP needs it)."""

    @abstractmethod
    def renew(self) -> bool:
        """Extend the lease of everything held. False: the lease was lost, and with it every
        delivery held until now (claim and settle go on under a new lease). Any thread."""

    @abstractmethod
    def reap(self) -> int:
        """Return what dead owners held to its queues, flagged redelivered and counted. The number
        of messages returned. Any thread; any number of processes at once."""

    @abstractmethod
    def reconnect(self) -> None:
        """After BrokerDown: connect again. Deliveries stay ours where the driver has leases;
        elsewhere later settlements of older deliveries are refused. Raises BrokerDown."""

    @abstractmethod
    def close(self) -> None:
        """Give everything held but unsettled back (not flagged) and stop."""
