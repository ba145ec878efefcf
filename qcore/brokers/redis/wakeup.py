"""How a Redis consumer is woken: connections blocked on its lists, and a notification channel.

In:  the lists that wake a consumer.  Out: the message a wake-up brought, or a hint to claim.
A connection blocked in BLMOVE for each watched list wakes exactly one of all idle consumers
and needs no list of consumers to notify; the channel covers the lists without a blocked connection.
A message that wakes an idle consumer is delivered straight from the claim list; it enters the ledger
only when another request is sent to the server while it is held.
Next: brokers/redis/consumer.py, which claims and settles.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from qcore.base.times import new_id
from qcore.brokers.contract.records import Delivery
from qcore.brokers.redis.connection import Call, RedisConnection
from qcore.brokers.redis.delivery_scripts import ADOPT
from qcore.brokers.redis.keys import Keys
from qcore.brokers.redis.scripts import RETURN_CLAIMS, unmark
from qcore.brokers.redis.servers import QUIET, ReplyError, ServerSelector
from qcore.errors import BrokerDown

BLOCK_S = 30
NET_S = 6.0  # fallback poll interval of an idle consumer, in case a wake-up was lost
PAUSED_S = 1.0  # a pause may end by itself, which sends no notification
MOST_WATCHED = 16  # lists with a blocked connection of their own
MOST_DIRECT_BYTES = 65_536  # a settlement from the claim list sends the message again, so it must be small


class Owner:
    """The names of all Redis keys of one owner."""

    def __init__(self, keys: Keys, node: str = "") -> None:
        """node: the name of the worker, which holder() in administration.py reads from the id."""
        self.id = f"{new_id()}.{node}" if node else new_id()
        self.lease, self.ledger = keys.lease + self.id, keys.ledger + self.id
        self.claim, self.watched = keys.claim + self.id, keys.watched + self.id


class QueueWatch:
    """A connection blocked on one list for one owner."""

    def __init__(self, door: ServerSelector, source: str) -> None:
        self.link, self.source = RedisConnection(door), source
        self.owner: Owner | None = None
        self.blocked = False  # a wait was sent whose answer has not been read
        self.stale = False  # a claim has taken the message of that answer
        self.waiting = 0  # answers that were read, whose messages wait in the claim list for a claim


class Direct(NamedTuple):
    """A delivery that is still in the claim list, where its wake-up put it."""

    owner: Owner
    claim_list: str
    field: str
    stored: bytes  # with its mark


class RedisWakeups:
    """The wake-up half of a Redis consumer."""

    def __init__(self, door: ServerSelector, keys: Keys, link: RedisConnection) -> None:
        """link: the connection of the consumer, which keeps their requests in order."""
        self._door, self._keys, self._link = door, keys, link
        self._bell = RedisConnection(door)
        self._queues: tuple[str, ...] = ()
        self._look_at_once = False
        self.watches: dict[str, QueueWatch] = {}
        self.direct: dict[int, Direct] = {}  # by the number of the delivery
        self.queue_of: dict[bytes, str] = {}  # for each list of the queues
        self.wanted: list[str] = []  # the lists to be watched
        self.paused: frozenset[str] = frozenset()  # queues that the last claim found paused

    def set_queues(self, queues: tuple[str, ...]) -> None:
        """Wake for these queues from now on."""
        keys = self._keys
        self._queues = queues
        self.queue_of = {name.encode(): q for q in queues for name in keys.lists(q)}
        self.wanted = [keys.list_for(q, 0) for q in queues]
        for source in [s for s in self.watches if s.encode() not in self.queue_of]:
            self._unwatch(self.watches.pop(source))
        self._bell.drop()

    def fds(self) -> list[int]:
        links = [w.link for w in self.watches.values() if w.blocked]
        if self._bell.is_open:
            links.append(self._bell)
        return [fd for link in links if (fd := link.fileno()) >= 0]

    def arm(self, owner: Owner) -> None:
        if not self._bell.is_open and self._queues:
            self._bell.send_command("SUBSCRIBE", *[self._keys.bell(q) for q in self._queues])
            self._bell.wait(1.0)
            self._look_at_once = True  # notifications sent before the subscription were not received
        if self.paused:
            self.leave_paused()
        for source in self.wanted[:MOST_WATCHED]:
            if self.paused and self.queue_of[source.encode()] in self.paused:
                continue
            watch = self.watches.get(source)
            if watch is None:
                watch = self.watches[source] = QueueWatch(self._door, source)
            if watch.blocked and watch.owner is owner:
                continue
            if watch.blocked:  # still takes messages for the previous owner
                watch.link.drop()
            self._block(watch, owner)

    def leave_paused(self) -> None:
        """End the waits for queues that were paused meanwhile."""
        for source, watch in self.watches.items():
            if watch.blocked and self.queue_of[source.encode()] in self.paused:
                self._unwatch(watch)

    def _block(self, watch: QueueWatch, owner: Owner) -> None:
        moved = watch.link.has_moved
        if moved:
            watch.link.drop()
        if moved or watch.owner is not owner:
            # Recorded first, so that a reaper finds what the wake-up may take.
            self._link.call("SADD", owner.watched, watch.source)
        if watch.owner is not owner:
            watch.owner, watch.waiting = owner, 0
        watch.link.identify()
        command = ("BLMOVE", watch.source, f"{owner.claim} {watch.source}", "RIGHT", "LEFT", BLOCK_S)
        watch.link.send_command(*command)
        watch.blocked, watch.stale = True, False

    def disarm(self, owner: Owner) -> None:
        blocked = [w for w in self.watches.values() if w.blocked]
        for watch in blocked:
            self._unblock(watch)
        if blocked:
            self.adopt()
            self._link.run(RETURN_CLAIMS, (owner.watched,), (owner.claim, ""))
            for watch in self.watches.values():
                watch.waiting = 0

    def _unblock(self, watch: QueueWatch) -> None:
        """End a wait; close the connection on which that fails."""
        watch.blocked = False
        if watch.link.id:
            for _ in range(20):
                # The wait may still be on its way to the server: then there is nothing to unblock yet.
                self._link.call("CLIENT", "UNBLOCK", watch.link.id)
                try:
                    if watch.link.read_within(0.05) is not False:
                        return
                except BrokerDown:
                    return
        watch.link.drop()

    def _unwatch(self, watch: QueueWatch) -> None:
        if watch.blocked:
            self._unblock(watch)
        watch.link.drop()
        if watch.owner is not None:
            self.adopt()
            self._link.run(RETURN_CLAIMS, (watch.owner.watched,), (watch.owner.claim, ""))
            for other in self.watches.values():  # the messages of their answers have just been returned
                other.stale, other.waiting = True, 0

    def wake(self, fd: int) -> tuple[QueueWatch, bytes] | None:
        """Read a readable descriptor of fds(): the message that it brought, with its mark."""
        try:
            if fd == self._bell.fileno():
                while self._bell.poll() is not False:
                    pass
                return None
            for watch in self.watches.values():
                if watch.link.fileno() == fd:
                    reply = watch.link.poll()
                    if reply is not False:
                        watch.blocked = False
                    if isinstance(reply, ReplyError) and not watch.link.is_refused(reply):
                        watch.link.drop()
                    return (watch, reply) if isinstance(reply, bytes) else None
        except BrokerDown:
            # The connection is closed; arm() opens another one or reports that there is no server.
            for watch in self.watches.values():
                watch.blocked = watch.blocked and watch.link.is_open
        return None

    def idle_s(self, next_due: float | None) -> float:
        if self._look_at_once:
            self._look_at_once = False
            return 0.0
        # The poll also detects a lost server while everything is idle.
        net = min(PAUSED_S if self.paused else NET_S, self._door.heartbeat_s * QUIET, self._door.probe_s)
        if len(self.wanted) > MOST_WATCHED:
            net = 0.2
        return net if next_due is None else max(0.0, min(net, next_due - time.monotonic()))

    def adopt(self) -> None:
        """Move delivered messages that are still in claim lists into the ledger."""
        if self.direct:
            self._link.run_all([adoption(d) for d in self.direct.values()])
            self.direct.clear()

    def drop(self) -> None:
        """Close the connections; arm() opens them again."""
        for watch in self.watches.values():
            watch.link.drop()
            watch.blocked = False
        self._bell.drop()


def flag(delivery: Delivery) -> None:
    """Set the redelivery fields of a delivery from the mark of its message."""
    delivery.raw, returns = unmark(delivery.raw)
    delivery.redelivered, delivery.deliveries = returns > 0, returns + 1


def adoption(direct: Direct) -> Call:
    return ADOPT, (direct.claim_list, direct.owner.ledger), (direct.field, direct.stored)
