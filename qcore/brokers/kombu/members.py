"""Members and revoked ids on RabbitMQ, and how many workers a request reaches.

In:  announcements, ids, requests.  Out: Members, ids, a number of receivers.
RabbitMQ does not list its queues or the bindings of an exchange to clients, so workers announce
themselves on a bulletin queue, and ours bind to an exchange behind the shared one: see reach().
Before this: broker.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from qcore.base.times import new_id
from qcore.brokers.contract.records import Member
from qcore.brokers.kombu.bulletin import Bulletin, BulletinQueue
from qcore.brokers.kombu.connection import KombuConnection
from qcore.brokers.kombu.messages import outgoing
from qcore.brokers.kombu.publisher import Publisher
from qcore.brokers.kombu.topology import Topology

MEMBERS, REVOKES = "qcore.members", "qcore.revokes"
ANNOUNCE_S = 1.0  # a broker short of memory or disk must not delay a worker's heartbeat
REMEMBERED_S = 60.0  # how long after its last announcement a worker is still listed
FRESH_S = 1.0  # a request within this time after a read of the bulletin queue needs no second read
IDS_A_NOTE = 1000
#: Routing key of a request on the shared exchange. A fanout exchange ignores it; ours, bound behind it,
#: is direct and routes the empty key only, which is that of Celery's requests.
ASIDE = "not.qcore"


class MemberList:
    """The members of one link, which the caller holds."""

    def __init__(self, link: KombuConnection, topology: Topology, publisher: Publisher) -> None:
        self._topology, self._publisher = topology, publisher
        self._members, self._revokes = (BulletinQueue(link, publisher, name) for name in (MEMBERS, REVOKES))
        self._seen: list[Member] = []
        self._seen_at = 0.0

    def announce(self, node: str, info: dict[str, Any] | None, ttl_s: float) -> None:
        """Announce a worker; None: it has left."""
        now = time.time()
        self._members.post([Bulletin(node, now, now + ttl_s, info)], REMEMBERED_S, ANNOUNCE_S)

    def members(self) -> list[Member]:
        now = time.time()
        latest = {note.topic: note for note in self._members.read()}
        self._seen = [
            Member(node, note.at, note.until > now, note.data)
            for node, note in sorted(latest.items())
            if isinstance(note.data, dict) and note.until + REMEMBERED_S > now
        ]
        self._seen_at = now
        return self._seen

    def revoke(self, task_ids: Sequence[str], ttl_s: float) -> None:
        now = time.time()
        parts = [list(task_ids[i : i + IDS_A_NOTE]) for i in range(0, len(task_ids), IDS_A_NOTE)]
        self._revokes.post([Bulletin("", now, now + ttl_s, part) for part in parts])

    def revoked(self, limit: int) -> list[str]:
        """Revoked ids, newest first."""
        now = time.time()
        found: dict[str, None] = {}
        for note in reversed(self._revokes.read()):
            if note.until > now and isinstance(note.data, list):
                found.update(dict.fromkeys(str(i) for i in reversed(note.data)))
            if len(found) >= limit:
                break
        return list(found)[:limit]

    def reach(self, exchange: str, raw: bytes) -> int | None:
        """Send a request to all workers; returns their number, None when workers of other kinds receive it.

        It is published twice. On the shared exchange with a key that our queues do not match: when the broker
        returns that one, there are no other workers. And on our own exchange, whose receivers can be counted.
        """
        ours = self._topology.control_exchange(exchange)
        first, second = (
            outgoing(raw, exchange, ASIDE, mandatory=True),
            outgoing(raw, ours, "", mandatory=True),
        )
        first.properties["message_id"] = new_id()  # identifies which of them is returned
        both = [(first, raw), (second, raw)]
        nobody = self._publisher.send(both if ours != exchange else both[:1])
        if 0 not in nobody:
            return None
        if 1 in nobody:
            return 0
        if time.time() - self._seen_at > FRESH_S:
            self.members()
        # The queue of a worker that has ended is deleted; that of a stopped process still exists.
        names = (f"{member.node}.{exchange}" for member in self._seen if member.alive)
        return sum(self._topology.exists(name) for name in names) or None
