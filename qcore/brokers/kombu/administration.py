"""Operations on queues through kombu: as far as AMQP can, which reads a queue only by taking its messages.

In:  names of queues.  Out: counts, messages, how many were deleted.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from qcore.brokers.contract.administration import Administration, Depth
from qcore.brokers.contract.records import Quarantined
from qcore.brokers.kombu.connection import KombuConnection
from qcore.brokers.kombu.messages import incoming
from qcore.brokers.kombu.topology import QUARANTINE, Topology

QUARANTINE_READ = 10_000


class KombuAdministration(Administration):
    """The queues of one virtual host."""

    def __init__(
        self, driver: str, link: KombuConnection, topology: Topology, named: Collection[str]
    ) -> None:
        """named: the queues that this process has published to or consumed from, as AMQP lists none."""
        super().__init__(driver)
        self._link, self._topology, self._named = link, topology, named

    def depth(self, queue: str) -> Depth:
        with self._link.refreshed():
            return Depth(ready=self._topology.size(queue))

    def peek(self, queue: str, limit: int = 20) -> list[bytes]:
        return [incoming(m, queue, self._link.native).raw for m in self._look(queue, limit)]

    def _look(self, queue: str, limit: int) -> list[Any]:
        """Take messages and return them to their places; they are then flagged as redelivered."""
        with self._link.refreshed():
            if not self._topology.has_queue(queue):
                return []

            def look(channel: Any) -> list[Any]:
                found: list[Any] = []
                while len(found) < limit:
                    message = self._link.next_message(channel, queue)
                    if message is None:
                        break
                    found.append(message)
                for message in reversed(found):
                    channel.basic_reject(message.delivery_tag, requeue=True)
                return found

            return self._link.attempt(look)

    def purge(self, queue: str) -> int:
        """Delete ready messages only: delayed ones of all queues share the same queues."""
        with self._link.refreshed():
            if not self._topology.has_queue(queue):
                return 0
            return self._link.attempt(lambda channel: int(channel.queue_purge(queue) or 0))

    def queues(self) -> list[str]:
        return list(self._named)

    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        found = []
        for message in self._look(QUARANTINE, QUARANTINE_READ):
            headers = message.properties.get("application_headers") or getattr(message, "headers", None) or {}
            at = headers.get("at")
            found.append(
                Quarantined(
                    id=str(message.properties.get("message_id") or ""),
                    queue=str(headers.get("queue", "")),
                    reason=str(headers.get("reason", "")),
                    at=float(at) if isinstance(at, int | float) else 0.0,
                    raw=incoming(message, QUARANTINE, self._link.native).raw,
                )
            )
        return found[::-1][:limit]
