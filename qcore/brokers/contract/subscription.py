"""Open ends of the control and event bus: the contract of what a broker returns to listen with.

Out of: Broker.subscribe() and Broker.inbox() of brokers/base.py, with connections of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod


class Subscription(ABC):
    """An open ear on an exchange; what is said while nobody listens is gone."""

    @abstractmethod
    def get(self, timeout_s: float | None) -> bytes | None:
        """The next message, or None after timeout_s (None waits for ever). Raises BrokerDown."""

    @abstractmethod
    def close(self) -> None: ...


class Inbox(Subscription):
    """A place for the replies to one request; `key` is the routing key that replies are sent to."""

    key: str

    def take(self, timeout_s: float | None) -> list[bytes]:
        """get(), and what else is there already; empty after timeout_s."""
        first = self.get(timeout_s)
        return [] if first is None else [first]
