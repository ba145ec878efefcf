"""The broker driver for RabbitMQ (amqp://, amqps://), and for kombu's other transports as far as possible.

In:  the contract of base.py.  Out: AMQP 0-9-1 through pyamqp, with Celery's names and arguments.
After this: connection.py (connections), messages.py (message forms), publisher.py,
topology.py (declarations), consumer.py, bus.py.

RabbitMQ has no leases: the messages of a consumer are redelivered when its connection ends. Every
returned message, for whatever reason, is flagged as redelivered. Priorities are sent, but queues
are declared as Celery declares them, without x-max-priority; the setting task_queue_max_priority, or the
transport option `max_priority` (then the same for every client), changes that.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from qcore.base.crashpoints import crashpoint
from qcore.base.process_facts import sockets_belong_to_threads
from qcore.base.times import new_id
from qcore.brokers.base import Broker
from qcore.brokers.contract.administration import Administration
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.diagnosis import CONFIRMED, DURABLE, NO, UNKNOWN, YES, Diagnosis, Guarantee
from qcore.brokers.contract.queues import FANOUT, Binding
from qcore.brokers.contract.records import Features, Member, Message
from qcore.brokers.contract.subscription import Inbox, Subscription
from qcore.brokers.kombu.bus import BusState, KombuListener
from qcore.brokers.kombu.connection import CHECK_RATE, KombuConnection, is_native
from qcore.brokers.kombu.consumer import KombuConsumer
from qcore.brokers.kombu.members import MemberList
from qcore.brokers.kombu.messages import outgoing
from qcore.brokers.kombu.publisher import Publisher
from qcore.brokers.kombu.topology import Topology, bus_type
from qcore.errors import Unroutable, mask_url

HEARTBEAT_S = 120.0
#: settings of the queues of control and of events: seconds after which a message, and an unused queue, ends
OF_QUEUES: dict[str, Any] = {
    "control_queue_ttl": 300.0,
    "control_queue_expires": 10.0,
    "control_queue_exclusive": True,
    "control_queue_durable": False,
    "event_queue_ttl": 5.0,
    "event_queue_expires": 60.0,
    "event_queue_exclusive": True,
    "event_queue_durable": False,
    "event_queue_prefix": "celeryev",
}
GONE_S = 60.0  # how long a departed worker is remembered: longer than its last announcement


class _Parts(NamedTuple):
    """A connection, and what uses it."""

    link: KombuConnection
    topology: Topology
    publisher: Publisher
    roster: MemberList


class KombuBroker(Broker):
    """The driver for RabbitMQ."""

    name: ClassVar[str] = "kombu"
    features: ClassVar[Features] = Features(
        results=False,
        delay=True,
        priority=False,
        fanout=True,
        exchanges=("direct", "topic", FANOUT, "headers"),
        receivers_known=False,
        members_known=True,
        foreign_known=False,
        peek=True,
        revokes=True,
        multi_host=True,
        lease=False,
    )

    def __new__(cls, url: str, options: dict[str, Any] | None = None) -> KombuBroker:
        return object.__new__(cls if is_native(url) else EmulatedBroker)

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(url, options)
        beat_s = self.options.get("broker_heartbeat")
        self._beat_s = HEARTBEAT_S if beat_s is None else float(beat_s)
        if self._beat_s:
            # The counterpart of a lease: a third of it passes between two calls of renew().
            rate = float(self.options.get("broker_heartbeat_checkrate") or CHECK_RATE)
            self.lease_s = min(self.lease_s, 3 * self._beat_s / rate)
        # No heartbeats are sent between two publishes, so this connection requests none: a publish
        # detects a dead connection itself.
        #: by thread, where sockets belong to threads; else one for all, of thread 0
        self._parts: dict[int, _Parts] = {}
        self._thread = threading.get_native_id if sockets_belong_to_threads() else int
        self._named: dict[str, None] = {}

    @property
    def _own(self) -> _Parts:
        """The connection of this thread, and what uses it."""
        thread = self._thread()
        if thread not in self._parts:
            link = KombuConnection(self.url, self.options, name="qcore client")
            topology, publisher = Topology(link), Publisher(link)
            roster = MemberList(link, topology, publisher)
            self._parts.setdefault(thread, _Parts(link, topology, publisher, roster))
        return self._parts[thread]

    @property
    def _link(self) -> KombuConnection:
        return self._own.link

    @property
    def _topology(self) -> Topology:
        return self._own.topology

    @property
    def _publisher(self) -> Publisher:
        return self._own.publisher

    @property
    def _roster(self) -> MemberList:
        return self._own.roster

    def _new_link(self, name: str, heartbeat: bool = True) -> KombuConnection:
        return KombuConnection(
            self.url, self.options, heartbeat_s=self._beat_s if heartbeat else 0.0, name=name
        )

    # --- roles

    @cached_property
    def administration(self) -> Administration:
        from qcore.brokers.kombu.administration import KombuAdministration

        return KombuAdministration(self.name, self._link, self._topology, self._named)

    @cached_property
    def diagnosis(self) -> Diagnosis:
        kept = "persistent messages in durable queues: on one disk, in quorum queues on several"
        fixed = [
            Guarantee(CONFIRMED, YES, "publish returns when the server has confirmed every message"),
            Guarantee(DURABLE, YES, kept, "task_default_queue_type, task_create_missing_queue_type"),
        ]
        return Diagnosis(self.name, fixed)

    # --- tasks

    def publish(self, messages: Sequence[Message]) -> None:
        with self._link.refreshed():
            crashpoint("before_publish")
            self._send(messages)
            crashpoint("published")
        for message in messages:
            if message.queue:
                self._named[message.queue] = None

    def _send(self, messages: Sequence[Message]) -> None:
        for index, reason in self._publisher.deliver(messages, self._topology).items():
            message = messages[index]
            where = message.queue or f"{message.exchange}' with key '{message.routing_key}"
            raise Unroutable(f"no queue took the message for '{where}': {reason}")

    def consumer(self, queues: Sequence[str], node: str = "") -> Consumer:
        self._named.update(dict.fromkeys(queues))
        link = self._new_link(f"qcore worker {node}".strip())
        sender = self._new_link(f"qcore sender {node}".strip(), heartbeat=False) if link.native else None
        return KombuConsumer(link, queues, sender)

    def bind(self, queue: str, binding: Binding) -> None:
        with self._link.refreshed():
            self._topology.queue(queue)
            self._topology.bind(queue, binding)

    def elect(self, key: str, ttl_s: float) -> bool:
        if not self._link.native:
            return super().elect(key, ttl_s)
        with self._link.refreshed():
            return self._topology.elect(key, ttl_s)

    # --- bus

    def broadcast(self, exchange: str, routing_key: str, raw: bytes) -> int | None:
        if not self._link.native or bus_type(exchange)[0] != "fanout":
            self._say(exchange, routing_key, raw)
            return None
        with self._link.refreshed():
            return self._roster.reach(exchange, raw)

    def _place(self, kind: str, name: str, exchange: str, key: str) -> BusState:
        """A queue of `control` or `event`; the transport option event_ttl_s precedes event_queue_ttl."""
        found = {option: self.options.get(option, usual) for option, usual in OF_QUEUES.items()}
        if self.options.get("event_ttl_s"):
            found["event_queue_ttl"] = self.options["event_ttl_s"]
        durable = found[f"{kind}_queue_durable"]
        return BusState(
            name=name,
            exchange=exchange,
            key=key,
            expires_s=found[f"{kind}_queue_expires"],
            ttl_s=found[f"{kind}_queue_ttl"],
            exclusive=found[f"{kind}_queue_exclusive"],
            durable=durable,
            auto_delete=not durable,
        )

    def _say(self, exchange: str, routing_key: str, raw: bytes) -> None:
        with self._link.refreshed():
            self._topology.bus_exchange(exchange)
            self._publisher.send([(outgoing(raw, exchange, routing_key, mandatory=False), raw)])

    def subscribe(self, exchange: str, pattern: str = "", node: str = "") -> Subscription:
        if pattern:
            prefix = self.options.get("event_queue_prefix") or OF_QUEUES["event_queue_prefix"]
            place = self._place("event", f"{prefix}.{new_id()}", exchange, pattern)
        else:
            name = f"{node}.{exchange}" if node else f"{exchange}.{new_id()}"
            place = self._place("control", name, exchange, pattern)
        return KombuListener(self._new_link(f"qcore listener {node}".strip()), place)

    def inbox(self, exchange: str, key: str) -> Inbox:
        place = self._place("control", f"{key}.{exchange}", exchange, key)
        return KombuListener(self._new_link("qcore inbox", heartbeat=False), place, key)

    def reply(self, exchange: str, key: str, raw: bytes) -> None:
        self._say(exchange, key, raw)

    def open_replies(self, name: str, expires_s: float) -> Inbox:
        """A queue for results sent to this process (`rpc://`), declared as Celery's clients do."""
        place = BusState(name=name, expires_s=expires_s, exclusive=False, durable=True)
        return KombuListener(self._new_link("qcore results", heartbeat=False), place, name)

    # --- members, revoked ids

    def announce(self, node: str, info: dict[str, Any], ttl_s: float) -> None:  # previous one unknown
        if self.features.members_known:
            with self._link.refreshed():
                self._roster.announce(node, info, ttl_s)

    def retire(self, node: str) -> None:
        if self.features.members_known:
            with self._link.refreshed():
                self._roster.announce(node, None, GONE_S)

    def members(self) -> list[Member]:
        """Members whose seen_at is in the clock of the worker itself."""
        if not self.features.members_known:
            return []
        with self._link.refreshed():
            return self._roster.members()

    def revoke(self, task_ids: Sequence[str], ttl_s: float = 10800.0) -> None:
        if self.features.revokes:
            with self._link.refreshed():
                self._roster.revoke(task_ids, ttl_s)

    def revoked(self, limit: int = 50_000) -> list[str]:
        if not self.features.revokes:
            return []
        with self._link.refreshed():
            return self._roster.revoked(limit)

    # --- lifecycle

    @property
    def place(self) -> str:
        return self._link.ends.current

    def info(self) -> dict[str, Any]:
        return {
            **super().info(),
            "alternates": [mask_url(u) for u in self._link.ends.urls if u != self.place],
        }

    def check(self) -> None:
        link = self._new_link("qcore check", heartbeat=False)
        try:
            with link.use():
                link.attempt(lambda channel: None)
        finally:
            link.close()

    def close(self) -> None:
        for parts in list(self._parts.values()):
            parts.link.close()


class EmulatedBroker(KombuBroker):
    """One of kombu's emulated transports: polled, without confirms or delayed delivery.

    A delayed message is claimed at once and held by the consumer until it is due.
    """

    features: ClassVar[Features] = Features(
        results=False,
        delay=False,
        priority=False,
        fanout=True,
        exchanges=("direct", "topic"),
        receivers_known=False,
        members_known=False,
        peek=True,
        revokes=False,
        multi_host=True,
        lease=False,
    )

    @cached_property
    def diagnosis(self) -> Diagnosis:
        what = "this transport does not confirm: a published message may be lost"
        fixed = [Guarantee(CONFIRMED, NO, what), Guarantee(DURABLE, UNKNOWN, "depends on the transport")]
        return Diagnosis(self.name, fixed)
