"""The Redis consumer: claims and settlements as one script call each, and the lease.

In:  queue names.  Out: deliveries held in the ledger of an owner whose lease this consumer renews.
After losing its lease it continues as a new owner; any reaper may return the old owner's ledger.
Before this: brokers/redis/wakeup.py, which wakes an idle consumer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from qcore.base.crashpoints import crashpoint
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.failed_tasks import FailedTaskLimits
from qcore.brokers.contract.records import Delivery, Message, Settle, Settlement
from qcore.brokers.redis.busy_poll import IDLE_SPIN_S, SPIN_S
from qcore.brokers.redis.connection import Call, RedisConnection
from qcore.brokers.redis.delivery_scripts import CLAIM, SETTLE
from qcore.brokers.redis.failed_task_scripts import SWEEP, ttl_us
from qcore.brokers.redis.keys import Keys
from qcore.brokers.redis.scripts import END_LEASES, ENROL, LEAVE, REAP, RENEW, RETURN_CLAIMS, RETURN_FIELDS
from qcore.brokers.redis.servers import ServerSelector
from qcore.brokers.redis.wakeup import (
    BLOCK_S,
    MOST_DIRECT_BYTES,
    Direct,
    Owner,
    QueueWatch,
    RedisWakeups,
    adoption,
    flag,
)
from qcore.brokers.shared.fairness import PriorityFairness, QueueOrder
from qcore.brokers.shared.fork_hooks import tell_after_fork
from qcore.brokers.shared.neighbours import Neighbours, this_host, this_process
from qcore.errors import BrokerError
from qcore.wire.failure import split

SWEEP_EVERY_S = 60.0
SWEPT_AT_ONCE = 500
LATE_S = 5.0  # the longest delay with which a server ends a wait
MOST_CLAIMED = 1000  # Lua passes at most some thousand values to one command
_HOW = {Settle.ACK: "a", Settle.REQUEUE: "r", Settle.RETURN: "t", Settle.DELAY: "d", Settle.QUARANTINE: "q"}

Route = Callable[[Message], list[str]]


class _Claim(NamedTuple):
    """A claim whose answer is pending."""

    owner: Owner
    first: int  # the number of the first delivery it returns
    watched: list[QueueWatch]
    queues: tuple[str, ...]  # in the order in which it looks at them
    call: Call


class RedisConsumer(Consumer):
    """One owner of deliveries."""

    def __init__(
        self,
        door: ServerSelector,
        keys: Keys,
        queues: Sequence[str],
        lease_s: float,
        route: Route,
        limits: FailedTaskLimits,
        node: str = "",
        order: str | None = None,
    ) -> None:
        """order: kombu's queue_order_strategy; where it is given, no turns go to lower priorities."""
        self._door, self._keys, self._route, self._node = door, keys, route, node
        self._kept_as = (ttl_us(limits), limits.most)
        self._sweep_at = time.monotonic() + SWEEP_EVERY_S
        self._lease_s, self._lease_ms = lease_s, max(1, int(lease_s * 1000))
        self._link = RedisConnection(door)
        self._wakeups = RedisWakeups(door, keys, self._link)
        self._direct = self._wakeups.direct  # one dictionary for both, never replaced
        self._side = RedisConnection(door)  # for renew() and reap(), which another thread may call
        self._side_lock = threading.Lock()
        self._owner_lock = threading.Lock()
        self._owner = Owner(keys, node)
        host = this_host()
        self._places, self._place = keys.places(host), this_process() if host else ""
        self._neighbours = Neighbours()
        self._lost = False
        self._next = 1
        self._held: set[int] = set()
        self._renewed_at = time.monotonic()
        self._unsure = False  # a claim was sent whose answer never arrived
        self._next_due: float | None = None
        self._turns = PriorityFairness() if order is None else None
        self._order = QueueOrder() if order is None else QueueOrder(order)
        self._closed = False
        # A forked child that inherits one of these sockets would keep a dead owner's wait alive.
        tell_after_fork(self)
        self._enrol(self._link, self._owner)
        self.set_queues(queues)

    def _enrol(self, link: RedisConnection, owner: Owner, before: str = "") -> None:
        arguments = (owner.id, self._lease_ms, self._place, before)
        link.run(ENROL, (owner.lease, self._keys.owners, self._places), arguments)

    def set_queues(self, queues: Sequence[str]) -> None:
        keys = self._keys
        self.queues = tuple(queues)
        self._lists = {name for queue in self.queues for name in keys.lists(queue)}
        self._order.set_queues(self.queues)
        self._looked_at = self._in_order()
        self._wakeups.set_queues(self.queues)
        self._declare()

    def _declare(self) -> None:
        """Register the queues where Celery's publishers and tools look for them."""
        keys = self._keys
        if self.queues:
            bindings = [
                ("SADD", table, keys.member(q, "", q))
                for q in self.queues
                for table in (keys.binding(q), keys.permanent(q))
            ]
            self._link.calls([("SADD", keys.queues, *self.queues), *bindings])

    # --- claim and settle

    def claim(self, limit: int) -> list[Delivery]:
        if self._unsure:
            self._recover()
        if self._wakeups.paused:
            self._wakeups.leave_paused()
        for _ in range(2):
            request = self._claim_request(limit)
            *_, reply = self._link.run_all((*map(adoption, self._direct.values()), request.call))
            self._direct.clear()
            found = self._claimed(request, reply)
            if found is not None:
                return found
        raise BrokerError("the lease of this consumer expires before it can be used; lease_s is too short")

    def _claim_request(self, limit: int) -> _Claim:
        owner, first = self._owner, self._next
        count = max(0, min(limit, MOST_CLAIMED))
        # Whether or not the answer arrives, these numbers are used up: a second claim with the
        # same ones would overwrite messages that only the ledger still holds.
        self._next += count
        self._unsure = True
        watched = [w for w in self._wakeups.watches.values() if w.owner is owner]
        if self._looked_at[0] is not self._order.queues:
            self._looked_at = self._in_order()
        queues, places = self._looked_at
        keys = (
            *(owner.lease, owner.ledger, self._keys.paused, *places),
            *[f"{owner.claim} {w.source}" for w in watched],
        )
        sizes = (count, first, len(self._lists), len(queues))
        turn = (*self._turn(count), len(self._keys.delayed_prefix) + 1, int(self._order.alternates))
        call = (CLAIM, keys, (*sizes, *turn, *[w.source for w in watched]))
        return _Claim(owner, first, watched, queues, call)

    def _in_order(self) -> tuple[tuple[str, ...], list[str]]:
        """The queues in their order; their lists, step by step, and their delayed sets."""
        keys, queues = self._keys, self._order.queues
        by_step = zip(*map(keys.lists, queues), strict=True)
        return queues, [*[name for step in by_step for name in step], *map(keys.delayed, queues)]

    def _turn(self, count: int) -> tuple[int, int]:
        """How many of `count` messages go to lower priorities, and which list they start with: the
        last, then the one before it, and so on, never the first."""
        if self._turns is None:
            return 0, 0
        due = self._turns.due(count)
        return due, self._turns.next_of(len(self._lists)) if due else 0

    def _claimed(self, request: _Claim, reply: list[Any]) -> list[Delivery] | None:
        """The deliveries of the answer; None when the lease was lost: try again as the new owner."""
        self._unsure = False
        if reply[0]:
            for watch, taken in zip(request.watched, reply[4], strict=True):
                watch.stale = watch.stale or taken > watch.waiting
                watch.waiting = max(0, watch.waiting - taken)
            self._wakeups.paused = frozenset(request.queues[place - 1] for place in reply[5])
            if self._turns is not None:
                self._turns.took(len(reply[3]))
            found = self._deliveries(reply, request.first)
            self._order.took([delivery.queue for delivery in found])
            return found
        self._switch(request.owner, self._link)
        return None

    def turn(self, settlements: Sequence[Settlement], limit: int) -> tuple[list[int], list[Delivery]]:
        if not settlements or self._unsure or not self._link.is_open:
            return super().turn(settlements, limit)
        if self._wakeups.paused:
            self._wakeups.leave_paused()
        # All deliveries leave the claim lists first: the claim would take what it finds there.
        direct = dict(self._direct)
        self._direct.clear()
        ending, request = self._settle_call(settlements), self._claim_request(limit)
        try:
            *_, ended, reply = self._link.run_all((*map(adoption, direct.values()), ending, request.call))
        except BaseException:
            self._direct.update(direct)  # a second adoption has no effect
            raise
        refused = self._settled(settlements, ended)
        found = self._claimed(request, reply)
        return refused, self.claim(limit) if found is None else found

    def _deliveries(self, reply: list[Any], first: int) -> list[Delivery]:
        _, next_due, fields, raws, *_ = reply
        self._next_due = time.monotonic() + float(next_due) if next_due else None
        self._held.update(range(first, first + len(raws)))
        queue_of = self._wakeups.queue_of
        found = []
        number = first
        try:
            for field, raw in zip(fields, raws, strict=True):
                queue = queue_of[field[field.index(b" ") + 1 :]]
                found.append(Delivery(number, queue, raw, False, 1, field))
                number += 1
        except KeyError:  # a wake-up took it from a queue that is no longer consumed
            found = [
                Delivery(first + i, self._keys.queue_of(f.partition(b" ")[2].decode()), r, False, 1, f)
                for i, (f, r) in enumerate(zip(fields, raws, strict=True))
            ]
        for delivery in found:
            if delivery.raw.endswith(b" "):
                flag(delivery)
        wanted = self._wakeups.wanted
        if len(wanted) < len(self._lists):
            for field in {f.partition(b" ")[2] for f in fields}:
                if (name := field.decode()) in self._lists and name not in wanted:
                    wanted.append(name)  # a priority list that is in use
        return found

    def settle(self, settlements: Sequence[Settlement]) -> list[int]:
        if not settlements:
            return []
        # A worker that holds nothing else can run nothing before the answer.
        self._link.spin_s = IDLE_SPIN_S if len(settlements) == len(self._held) else SPIN_S
        return self._settled(settlements, self._link.run_all((self._settle_call(settlements),))[0])

    def _settle_call(self, settlements: Sequence[Settlement]) -> Call:
        arguments: list[object] = []
        put, prefix = arguments.extend, self._keys.result_prefix
        for s in settlements:
            delivery, result = s.delivery, s.result
            direct = self._direct.get(delivery.number) if self._direct else None
            place = () if direct is None else (direct.claim_list, direct.stored)
            if s.action or s.sends or s.failure is not None:
                self._put_general(s, place, arguments)
                continue
            if result is None:
                put((delivery.handle, "a" if direct is None else "b", *place))
            else:
                ttl = "" if result.ttl_s is None else max(1, int(result.ttl_s * 1000))
                key = prefix + result.task_id
                put((delivery.handle, "A" if direct is None else "B", *place, key, ttl, result.meta))
        owner, keys = self._owner, self._keys
        crashpoint("before_settle")
        return SETTLE, (owner.ledger, keys.quarantine, keys.sequence), arguments

    def _settled(self, settlements: Sequence[Settlement], refused: list[bytes]) -> list[int]:
        self._held.difference_update([s.delivery.number for s in settlements])
        for s in settlements if self._direct else ():
            self._direct.pop(s.delivery.number, None)
        crashpoint("settled")
        return [int(field.partition(b" ")[0]) for field in refused] if refused else []

    def _put_general(self, s: Settlement, place: tuple[object, ...], arguments: list[object]) -> None:
        keys, delivery, action = self._keys, s.delivery, s.action
        steps: list[object] = []
        count = 0
        if s.result is not None:
            ttl = "" if s.result.ttl_s is None else max(1, int(s.result.ttl_s * 1000))
            steps += ("r", keys.result(s.result.task_id), ttl, s.result.meta)
            count += 1
        for message in s.sends:
            for queue in self._route(message):
                name = keys.list_for(queue, message.priority)
                bell = keys.bell(queue)
                if message.due_at is None:
                    steps += ("s", name, message.raw, "" if keys.is_base(name) else bell)
                else:
                    steps += ("d", keys.delayed(queue), bell, repr(message.due_at), name, message.raw)
                count += 1
        if s.failure is not None:
            steps += ("f", keys.failures, s.failure.task_id, *self._kept_as, *split(s.failure))
            count += 1
        extra = bell = ""
        due: object = ""
        if action == Settle.QUARANTINE:
            due, extra = delivery.queue, s.reason
        elif action == Settle.DELAY:
            due, extra, bell = repr(s.due_at), keys.delayed(delivery.queue), keys.bell(delivery.queue)
        elif action != Settle.ACK and not keys.is_base(delivery.handle.decode()):
            bell = keys.bell(delivery.queue)
        arguments += (delivery.handle, "G" if place else "g", *place, _HOW[action], due, extra, bell, count)
        arguments += steps

    # --- wake-ups

    def fds(self) -> list[int]:
        return self._wakeups.fds()

    def arm(self) -> None:
        self._wakeups.arm(self._owner)

    def disarm(self) -> None:
        self._wakeups.disarm(self._owner)

    def idle_s(self) -> float:
        return self._wakeups.idle_s(self._next_due)

    def wake(self, fd: int) -> list[Delivery]:
        """The message that woke an idle consumer, without a request to the server. Empty when
        that is not safe: the next claim finds the message."""
        brought = self._wakeups.wake(fd)
        if brought is None:
            return []
        (watch, stored), owner = brought, self._owner
        if watch.stale:
            return []
        # The lease may have ended by now; a claim would detect that.
        late = time.monotonic() - self._renewed_at > self._lease_s / 2
        queue = self._wakeups.queue_of[watch.source.encode()]
        unsafe = self._held or self._unsure or late or queue in self._wakeups.paused
        if unsafe or watch.owner is not owner or len(stored) > MOST_DIRECT_BYTES:
            watch.waiting += 1
            return []
        number, self._next = self._next, self._next + 1
        field = f"{number} {watch.source}"
        delivery = Delivery(number, queue, stored, handle=field.encode())
        flag(delivery)
        self._held.add(number)
        self._direct[number] = Direct(owner, f"{owner.claim} {watch.source}", field, stored)
        crashpoint("handed_out")
        return [delivery]

    # --- lease

    def renew(self) -> bool:
        with self._side_lock:
            if self._closed:
                return False
            owner, asked_at = self._owner, time.monotonic()
            arguments = (owner.id, self._lease_ms, BLOCK_S + LATE_S)
            keys = (owner.lease, self._keys.owners, self._places)
            reply = self._side.run(RENEW, keys, arguments, safe=True)
            if reply is None:
                self._switch(owner, self._side)
            else:
                self.reap_in_s = float(reply[0])
                texts = [text.decode("utf-8", "replace") for text in reply[1]]
                self._neighbours.learn(dict(zip(texts[::2], texts[1::2], strict=True)), owner.id)
            self._renewed_at = asked_at
            lost, self._lost = self._lost, False
            return not lost

    def _switch(self, lost: Owner, link: RedisConnection) -> None:
        """Continue as a new owner."""
        with self._owner_lock:
            if self._owner is not lost:
                return
            fresh = Owner(self._keys, self._node)
            self._enrol(link, fresh, lost.id)
            crashpoint("lease_renamed")
            self._owner, self._lost = fresh, True
            # Messages taken by a wake-up are returned at once; the ledger may be large, so it is reaped.
            link.run(RETURN_CLAIMS, (lost.watched,), (lost.claim, "crashed"))

    @property
    def neighbours(self) -> int:
        return len(self._neighbours)

    def has_ended_neighbour(self) -> bool:
        return bool(self._neighbours.ended())

    def reap(self) -> int:
        keys = self._keys
        with self._side_lock:
            if self._closed:
                return 0
            if time.monotonic() >= self._sweep_at:
                # Reapers run periodically, so they also delete failed tasks that are too old.
                swept = self._side.run(SWEEP, (), (keys.failures, *self._kept_as, SWEPT_AT_ONCE), safe=True)
                self._sweep_at += 0 if swept == SWEPT_AT_ONCE else SWEEP_EVERY_S
            if ended := self._neighbours.ended():
                self._side.run(END_LEASES, (self._places,), (keys.lease, *ended), safe=True)
                self._neighbours.forget(ended)
            arguments = (keys.lease, keys.ledger, keys.claim, keys.watched, BLOCK_S + LATE_S)
            count, self.owners, soon = self._side.run(REAP, (keys.owners, keys.reaped), arguments, safe=True)
            self.reap_in_s = float(soon)
            return int(count)

    def reconnect(self) -> None:
        self._link.drop()
        self._wakeups.drop()
        self._recover()
        self._declare()  # the server may have restarted empty

    def _recover(self) -> None:
        """Return the messages of a claim whose answer never arrived."""
        owner = self._owner
        self._link.kill_predecessor()
        self._wakeups.adopt()
        fields = self._link.call("HKEYS", owner.ledger)
        unknown = [f for f in fields if int(f.partition(b" ")[0]) not in self._held]
        if unknown:
            self._link.run(RETURN_FIELDS, (owner.ledger,), unknown)
        self._unsure = False

    def close(self) -> None:
        with self._side_lock:
            if self._closed:
                return
            self._closed = True
        try:
            self.disarm()
            self._leave()
        except BrokerError:
            pass  # the lease expires, and the next reaper returns everything
        finally:
            self._drop_all()

    def _leave(self) -> None:
        owner, keys = self._owner, self._keys
        self._link.run(
            LEAVE,
            (owner.lease, owner.ledger, keys.owners, owner.watched, self._places),
            (owner.claim, owner.id),
        )
        self._held.clear()
        self._direct.clear()

    def after_fork(self) -> None:
        """In a child: the parent continues to hold the deliveries, so nothing is returned here."""
        self._closed = True
        self._side_lock, self._owner_lock = threading.Lock(), threading.Lock()
        self._drop_all()

    def _drop_all(self) -> None:
        self._link.drop()
        self._side.drop()
        self._wakeups.drop()
