"""The bus in memory: subscriptions and inboxes of one Place."""

from __future__ import annotations

from collections import deque

from qcore.brokers.contract.subscription import Inbox, Subscription
from qcore.brokers.memory.state import MemoryState
from qcore.errors import BrokerDown


class MemorySubscription(Subscription):
    can_wake = True

    def __init__(self, state: MemoryState, exchange: str, pattern: str) -> None:
        self.exchange, self.pattern = exchange, pattern
        self.heard: deque[bytes] = deque(maxlen=100_000)
        self._state, self._closed, self._woken = state, False, False

    def get(self, timeout_s: float | None) -> bytes | None:
        with self._state.changed:
            if not self._state.changed.wait_for(lambda: self.heard or self._closed or self._woken, timeout_s):
                return None
            if self._woken and not self.heard:
                self._woken = False
                return None
            if self._closed and not self.heard:
                raise BrokerDown("memory://", "the subscription is closed")
            return self.heard.popleft()

    def wake(self) -> None:
        with self._state.changed:
            self._woken = True
            self._state.changed.notify_all()

    def close(self) -> None:
        with self._state.changed:
            self._closed = True
            self._state.subscriptions.discard(self)
            self._state.changed.notify_all()


class MemoryInbox(MemorySubscription, Inbox):
    def __init__(self, state: MemoryState, exchange: str, key: str) -> None:
        super().__init__(state, exchange, "")
        self.key = key

    def close(self) -> None:
        super().close()
        with self._state.changed:
            boxes = self._state.inboxes.get((self.exchange, self.key), [])
            if self in boxes:
                boxes.remove(self)
            if not boxes:
                self._state.inboxes.pop((self.exchange, self.key), None)
