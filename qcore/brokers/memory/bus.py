"""The bus in memory: subscriptions and inboxes of one Place."""

from __future__ import annotations

from collections import deque

from qcore.brokers.contract.subscription import Inbox, Subscription
from qcore.brokers.memory.state import Place
from qcore.errors import BrokerDown


class MemorySubscription(Subscription):
    def __init__(self, place: Place, exchange: str, pattern: str) -> None:
        self.exchange, self.pattern = exchange, pattern
        self.heard: deque[bytes] = deque(maxlen=100_000)
        self._place, self._closed = place, False

    def get(self, timeout_s: float | None) -> bytes | None:
        with self._place.changed:
            if not self._place.changed.wait_for(lambda: self.heard or self._closed, timeout_s):
                return None
            if self._closed and not self.heard:
                raise BrokerDown("memory://", "the subscription is closed")
            return self.heard.popleft()

    def close(self) -> None:
        with self._place.changed:
            self._closed = True
            self._place.ears.discard(self)
            self._place.changed.notify_all()


class MemoryInbox(MemorySubscription, Inbox):
    def __init__(self, place: Place, exchange: str, key: str) -> None:
        super().__init__(place, exchange, "")
        self.key = key

    def close(self) -> None:
        super().close()
        with self._place.changed:
            boxes = self._place.inboxes.get((self.exchange, self.key), [])
            if self in boxes:
                boxes.remove(self)
            if not boxes:
                self._place.inboxes.pop((self.exchange, self.key), None)
