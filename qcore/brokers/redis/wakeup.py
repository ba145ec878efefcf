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

from qcore.base.crashpoints import crashpoint
from qcore.base.times import new_id
from qcore.brokers.contract.consumer import Consumer
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

    def __init__(self, keys: Keys) -> None:
        self.id = new_id()
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


class RedisWakeups(Consumer):
    """The wake-up half of a Redis consumer; the other half provides these attributes."""

    _door: ServerSelector
    _keys: Keys
    _link: RedisConnection
    _bell: RedisConnection
    _owner: Owner
    _watches: dict[str, QueueWatch]
    _direct: dict[int, Direct]
    _held: set[int]
    _wanted: list[str]
    _queue_of: dict[bytes, str]
    _paused: frozenset[str]  # queues that the last claim found paused
    _next: int
    _next_due: float | None
    _renewed_at: float
    _lease_s: float
    _unsure: bool
    _look_at_once = False

    def fds(self) -> list[int]:
        links = [w.link for w in self._watches.values() if w.blocked]
        if self._bell.is_open:
            links.append(self._bell)
        return [fd for link in links if (fd := link.fileno()) >= 0]

    def arm(self) -> None:
        owner = self._owner
        if not self._bell.is_open and self.queues:
            self._bell.send_command("SUBSCRIBE", *[self._keys.bell(q) for q in self.queues])
            self._bell.wait(1.0)
            self._look_at_once = True  # notifications sent before the subscription were not received
        if self._paused:
            self._leave_paused()
        for source in self._wanted[:MOST_WATCHED]:
            if self._paused and self._queue_of[source.encode()] in self._paused:
                continue
            watch = self._watches.get(source)
            if watch is None:
                watch = self._watches[source] = QueueWatch(self._door, source)
            if watch.blocked and watch.owner is owner:
                continue
            if watch.blocked:  # still takes messages for the previous owner
                watch.link.drop()
            self._block(watch, owner)

    def _leave_paused(self) -> None:
        """End the waits for queues that were paused meanwhile."""
        for source, watch in self._watches.items():
            if watch.blocked and self._queue_of[source.encode()] in self._paused:
                self._unwatch(watch)

    def _block(self, watch: QueueWatch, owner: Owner) -> None:
        if watch.owner is not owner:
            # Recorded first, so that a reaper finds what the wake-up may take.
            self._link.call("SADD", owner.watched, watch.source)
            watch.owner, watch.waiting = owner, 0
        watch.link.identify()
        command = ("BLMOVE", watch.source, f"{owner.claim} {watch.source}", "RIGHT", "LEFT", BLOCK_S)
        watch.link.send_command(*command)
        watch.blocked, watch.stale = True, False

    def disarm(self) -> None:
        blocked = [w for w in self._watches.values() if w.blocked]
        for watch in blocked:
            self._unblock(watch)
        if blocked:
            self._adopt()
            owner = self._owner
            self._link.run(RETURN_CLAIMS, (owner.watched,), (owner.claim, ""))
            for watch in self._watches.values():
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
            self._adopt()
            self._link.run(RETURN_CLAIMS, (watch.owner.watched,), (watch.owner.claim, ""))
            for other in self._watches.values():  # the messages of their answers have just been returned
                other.stale, other.waiting = True, 0

    def wake(self, fd: int) -> list[Delivery]:
        try:
            if fd == self._bell.fileno():
                while self._bell.poll() is not False:
                    pass
                return []
            for watch in self._watches.values():
                if watch.link.fileno() == fd:
                    reply = watch.link.poll()
                    if reply is not False:
                        watch.blocked = False
                    if isinstance(reply, ReplyError):
                        watch.link.drop()
                    return self._hand_out(watch, reply) if isinstance(reply, bytes) else []
        except BrokerDown:
            # The connection is closed; arm() opens another one or reports that there is no server.
            for watch in self._watches.values():
                watch.blocked = watch.blocked and watch.link.is_open
        return []

    def _hand_out(self, watch: QueueWatch, stored: bytes) -> list[Delivery]:
        """The message that woke an idle consumer, without a request to the server. Empty when
        that is not safe: the next claim finds the message."""
        owner = self._owner
        if watch.stale:
            return []
        # The lease may have ended by now; a claim would detect that.
        late = time.monotonic() - self._renewed_at > self._lease_s / 2
        paused = bool(self._paused) and self._queue_of[watch.source.encode()] in self._paused
        unsafe = self._held or self._unsure or late or paused
        if unsafe or watch.owner is not owner or len(stored) > MOST_DIRECT_BYTES:
            watch.waiting += 1
            return []
        number, self._next = self._next, self._next + 1
        field = f"{number} {watch.source}"
        delivery = Delivery(number, self._queue_of[watch.source.encode()], stored, handle=field.encode())
        flag(delivery)
        self._held.add(number)
        self._direct[number] = Direct(owner, f"{owner.claim} {watch.source}", field, stored)
        crashpoint("handed_out")
        return [delivery]

    def idle_s(self) -> float:
        if self._look_at_once:
            self._look_at_once = False
            return 0.0
        # The poll also detects a lost server while everything is idle.
        net = min(PAUSED_S if self._paused else NET_S, self._door.heartbeat_s * QUIET)
        if len(self._wanted) > MOST_WATCHED:
            net = 0.2
        if self._next_due is None:
            return net
        return max(0.0, min(net, self._next_due - time.monotonic()))

    def _adopt(self) -> None:
        """Move delivered messages that are still in claim lists into the ledger."""
        if self._direct:
            self._link.run_all([adoption(d) for d in self._direct.values()])
            self._direct.clear()


def flag(delivery: Delivery) -> None:
    """Set the redelivery fields of a delivery from the mark of its message."""
    delivery.raw, returns = unmark(delivery.raw)
    delivery.redelivered, delivery.deliveries = returns > 0, returns + 1


def adoption(direct: Direct) -> Call:
    return ADOPT, (direct.claim_list, direct.owner.ledger), (direct.field, direct.stored)
