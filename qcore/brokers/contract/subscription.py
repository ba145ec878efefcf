"""Receiving ends of the control and event bus: the objects that a broker returns for receiving.

Created by: Broker.subscribe() and Broker.inbox() of brokers/base.py, each with its own connection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod


class Subscription(ABC):
    """A subscription to a fanout exchange. Messages published while not subscribed are lost."""

    #: whether wake() works
    can_wake: bool = False

    @abstractmethod
    def get(self, timeout_s: float | None) -> bytes | None:
        """The next message, or None after timeout_s seconds (None waits for ever). Raises BrokerDown."""

    def wake(self) -> None:
        """End the get() that waits in another thread, or else the next one; it returns None."""

    @abstractmethod
    def close(self) -> None: ...


class Inbox(Subscription):
    """A queue for the replies to one request; `key` is the routing key that replies are sent to."""

    key: str

    def take(self, timeout_s: float | None) -> list[bytes]:
        """Every message received so far, after waiting as get() does; empty after timeout_s seconds."""
        first = self.get(timeout_s)
        return [] if first is None else [first]
