"""The queues, exchanges and bindings that qcore declares on an AMQP broker, named as Celery's.

In:  a Link (held), a name.  Out: queues, exchanges and bindings that exist.
Everything is checked for before it is declared, so that an existing queue with other arguments is
used as it is instead of being refused with 406.

Delays are RabbitMQ's own, laid out as Celery 5.5 and kombu do it: 28 levels, level n delays a
message for 2**n seconds if bit n of the delay is set. The routing key contains the delay, highest bit
first, then the queue.
"""

from __future__ import annotations

import logging
from functools import partial
from hashlib import sha256
from typing import Any

from amqp.exceptions import AccessRefused, ChannelError, NotFound, PreconditionFailed

from qcore.base.times import new_id
from qcore.brokers.contract.queues import Binding, QueueDefinition, plain
from qcore.brokers.kombu.connection import KombuConnection
from qcore.errors import ConfigError
from qcore.wire import control

log = logging.getLogger("qcore.broker")

BITS = 28
DELIVERY_EXCHANGE = "celery_delayed_delivery"
FIRST_EXCHANGE = f"celery_delayed_{BITS - 1}"
LONGEST_DELAY_S = 2**BITS - 1
QUARANTINE = "qcore.quarantine"
_TYPES = ("quorum", "classic")


class Topology:
    """The objects known to exist on the connection of one link."""

    def __init__(self, link: KombuConnection) -> None:
        self.link = link
        self._epoch = -1
        self._known: set[tuple[str, str]] = set()

    def _is_new(self, kind: str, name: str) -> bool:
        if self._epoch != self.link.epoch:
            self._epoch = self.link.epoch
            self._known.clear()
        return (kind, name) not in self._known

    def _note(self, kind: str, name: str) -> None:
        self._known.add((kind, name))

    def forget(self, queue: str) -> None:
        """Forget a queue that may have been deleted."""
        self._known.discard(("queue", queue))
        self._known.discard(("delay", queue))

    # --- queues

    def queue(self, name: str) -> None:
        """Declare a queue as Celery declares one without a definition: durable, on its own exchange."""
        if not self._is_new("queue", name):
            return
        if not self.link.native or self._size(name) is None:
            self._declare_queue(self.link.options.get("define_queue", plain)(name))
        if self.link.native and self._exists(DELIVERY_EXCHANGE):
            # Celery's clients delay messages too; they rely on the worker to bind its queues.
            self._bind_delay(name)
        self._note("queue", name)

    def _declare_queue(self, found: QueueDefinition) -> None:
        def declare(channel: Any) -> None:
            channel.queue_declare(
                found.name,
                durable=found.durable,
                exclusive=found.exclusive,
                auto_delete=found.auto_delete,
                arguments=found.arguments or None,
            )

        try:
            self.link.attempt(declare)
        except PreconditionFailed:
            pass  # another process declared it first with other arguments
        except AccessRefused:
            return  # no permission to declare; a publish finds out whether it exists
        for binding in found.bindings:
            try:
                self.link.attempt(partial(_bind, queue=found.name, binding=binding))
            except (PreconditionFailed, AccessRefused) as exc:
                # An exchange of another type has the name; the default exchange is sufficient for most.
                if found.is_explicit:
                    log.warning("'%s' is not bound to '%s': %s", found.name, binding.exchange, exc)

    def _size(self, name: str) -> int | None:
        """The number of ready messages; None when there is no such queue."""

        def look(channel: Any) -> int:
            return int(channel.queue_declare(name, passive=True).message_count)

        try:
            return self.link.attempt(look)
        except NotFound:
            return None
        except ChannelError as exc:
            if exc.reply_code == 404:
                return None  # kombu's emulations have their own classes
            return 0  # it exists and is exclusive to another connection

    def elect(self, key: str, ttl_s: float) -> bool:
        """Whether this process is the first one that declares the queue of an election. Each gives it other
        arguments, and the server refuses to declare a queue again with others. Its connection may break."""
        arguments = {
            "x-expires": int(ttl_s * 1000),
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": new_id(),
        }

        name = f"qcore.election.{sha256(key.encode()).hexdigest()[:32]}"

        def declare(channel: Any) -> None:
            channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)

        try:
            self.link.attempt(declare)
        except PreconditionFailed:
            return False
        return True

    def exists(self, queue: str) -> bool:
        """Whether the queue exists now, exclusive ones of other connections included."""
        return self._size(queue) is not None

    def size(self, name: str) -> int:
        """The number of ready messages; 0 when there is no such queue."""
        if self.link.native:
            return self._size(name) or 0
        size: int = self.link.attempt(lambda channel: int(channel._size(name)))
        return size

    def has_queue(self, name: str) -> bool:
        return not self.link.native or self._size(name) is not None

    def quarantine(self) -> None:
        if self._is_new("queue", QUARANTINE):
            if not self.link.native or self._size(QUARANTINE) is None:
                self.link.attempt(
                    lambda channel: channel.queue_declare(QUARANTINE, durable=True, auto_delete=False)
                )
            self._note("queue", QUARANTINE)

    # --- exchanges

    def _exists(self, exchange: str) -> bool:
        try:
            self.link.attempt(lambda channel: channel.exchange_declare(exchange, "direct", passive=True))
        except NotFound:
            return False
        except ChannelError:
            pass
        return True

    def bind(self, queue: str, binding: Binding) -> None:
        """Bind a queue that exists to an exchange, which is made when it is missing. Raises ConfigError when
        there is one of another type, or the server does not know the type or does not allow it."""
        try:
            self.link.attempt(partial(_bind, queue=queue, binding=binding))
        except ChannelError as exc:
            raise ConfigError(
                f"'{queue}' cannot be bound to the exchange '{binding.exchange}' of the type "
                f"'{binding.kind}': {exc}"
            ) from exc

    def fanout(self, binding: Binding) -> None:
        """Declare an exchange that task_queues names."""
        if self._is_new("exchange", binding.exchange):
            self.link.attempt(lambda channel: _declare_exchange(channel, binding))
            self._note("exchange", binding.exchange)

    def has_exchange(self, name: str) -> bool:
        """Whether the exchange exists, so that messages can be sent to it."""
        if not self._is_new("exchange", name):
            return True
        if self.link.native and not self._exists(name):
            return False
        self._note("exchange", name)
        return True

    def bus_exchange(self, name: str) -> None:
        """Declare an exchange of the control or event bus."""
        if not self._is_new("exchange", name):
            return
        kind, durable = bus_type(name)

        def declare(channel: Any) -> None:
            channel.exchange_declare(name, kind, durable=durable, auto_delete=False)

        try:
            self.link.attempt(declare)
        except (PreconditionFailed, AccessRefused):
            pass  # it exists with another type, or we lack the permission to create it: use it as it is
        self._note("exchange", name)

    def control_exchange(self, name: str) -> str:
        """The exchange on which our workers receive requests sent to all on `name`, with an empty key;
        `name` itself for users without the permission to declare one."""
        ours = f"qcore.{name}"
        self.bus_exchange(name)
        if self._is_new("exchange", ours):

            def declare(channel: Any) -> None:
                channel.exchange_declare(ours, "direct", durable=False, auto_delete=False)
                channel.exchange_bind(ours, name)

            try:
                self.link.attempt(declare)
            except (AccessRefused, PreconditionFailed):
                return name
            self._note("exchange", ours)
        return ours

    # --- delays

    def delay(self, queue: str) -> None:
        """Declare everything that a delayed message needs to reach `queue`."""
        if not self._is_new("delay", queue):
            return
        if self._is_new("delay", ""):
            # Declared last: when it exists, all levels exist.
            if self._exists(DELIVERY_EXCHANGE):
                # Its own binding is made after it and may be missing.
                self._bind_level("celery_delayed_0", DELIVERY_EXCHANGE, "*." * (BITS - 1))
            else:
                self._declare_levels()
            self._note("delay", "")
        self.queue(queue)
        self._bind_delay(queue)
        self._note("delay", queue)

    def _bind_delay(self, queue: str) -> None:
        # Exactly 28 words in front: Celery's '#.name' would also match messages for 'other.name'.
        key = "*." * BITS + queue

        def bind(channel: Any) -> None:
            channel.queue_bind(queue, DELIVERY_EXCHANGE, routing_key=key)

        self.link.attempt(bind)

    def _declare_levels(self) -> None:
        wanted = str(self.link.options.get("broker_native_delayed_delivery_queue_type") or _TYPES[0])
        kinds = [wanted, *(t for t in _TYPES if t != wanted)]
        zeros = ""
        for level in range(BITS - 1, -1, -1):
            name = f"celery_delayed_{level}"
            below = f"celery_delayed_{level - 1}" if level else DELIVERY_EXCHANGE
            self._declare_level(level, name, below, kinds)
            self._bind_level(name, below, zeros)
            zeros += "*."

    def _declare_level(self, level: int, name: str, below: str, kinds: list[str]) -> None:
        self.link.attempt(
            lambda channel: channel.exchange_declare(name, "topic", durable=True, auto_delete=False)
        )
        for kind in list(kinds):
            arguments: dict[str, Any] = {
                "x-queue-type": kind,
                "x-overflow": "reject-publish",
                "x-message-ttl": 2**level * 1000,
                "x-dead-letter-exchange": below,
            }
            if kind == "quorum":
                arguments["x-dead-letter-strategy"] = "at-least-once"
            try:
                self.link.attempt(partial(_durable_queue, name, arguments))
                return
            except PreconditionFailed:
                # Declared with the other type, as are all other levels then. With neither: used as it is.
                kinds.append(kinds.pop(0))

    def _bind_level(self, name: str, below: str, zeros: str) -> None:
        def bind(channel: Any) -> None:
            channel.queue_bind(name, name, routing_key=f"{zeros}1.#")
            channel.exchange_declare(below, "topic", durable=True, auto_delete=False)
            channel.exchange_bind(below, name, routing_key=f"{zeros}0.#")

        self.link.attempt(bind)


def _durable_queue(name: str, arguments: dict[str, Any], channel: Any) -> None:
    channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)


def delay_key(wait_s: float, queue: str) -> str:
    """The routing key on FIRST_EXCHANGE that brings a message to `queue` after wait_s in whole seconds.

    Rounded down: our consumers hold a message for the rest, and Celery's check its eta.
    """
    return ".".join(f"{min(int(wait_s), LONGEST_DELAY_S):0{BITS}b}") + "." + queue


def bus_type(exchange: str) -> tuple[str, bool]:
    """Type and durability of a bus exchange, as Celery declares it."""
    if exchange.startswith("reply."):
        return "direct", False
    if exchange == control.EXCHANGE or exchange.endswith(".pidbox"):
        return "fanout", False
    return "topic", True


def _declare_exchange(channel: Any, binding: Binding) -> None:
    channel.exchange_declare(
        binding.exchange,
        binding.kind,
        durable=binding.durable,
        auto_delete=binding.auto_delete,
        arguments=binding.arguments,
    )


def _bind(channel: Any, queue: str, binding: Binding) -> None:
    _declare_exchange(channel, binding)
    channel.queue_bind(queue, binding.exchange, routing_key=binding.routing_key)
