"""Queues as the settings define them: exchanges, bindings, arguments, and where a call is sent.

In:  task_queues (names, kombu's Queue objects, or a mapping of names to options), task_default_* and
task_create_missing_*.  Out: definitions, which drivers declare; where each call goes, by Celery's rules.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from qcore.brokers.base import Broker
from qcore.brokers.contract.queues import FANOUT, Binding, QueueDefinition
from qcore.brokers.contract.records import Message
from qcore.errors import ConfigError, QueueNotFound, Unsupported, did_you_mean
from qcore.settings.config import Config

log = logging.getLogger("qcore.worker")


class Destination(NamedTuple):
    """Where a call is sent: to a queue by name (exchange ''), or to an exchange with a key."""

    exchange: str
    routing_key: str
    queue: QueueDefinition | None = None  # the one that the call or its route names


class QueueTable:
    """The queues of an app by name and alias."""

    def __init__(self, conf: Config) -> None:
        self._conf = conf
        self._named: dict[str, QueueDefinition] = {}
        self._missing: dict[str, QueueDefinition] = {}
        self._aliases: dict[str, str] = {}
        self._bound: set[str] = set()
        self._direct: dict[str | None, Destination] = {}
        given = conf.task_queues
        items = given.items() if isinstance(given, dict) else ((None, q) for q in given or ())
        for name, one in items:
            found = self._of_mapping(str(name), one) if isinstance(one, dict) else self._of(one)
            self._named[found.name] = found
            if found.alias:
                self._aliases[found.alias] = found.name

    def __iter__(self) -> Iterator[QueueDefinition]:
        return iter(self._named.values())

    def name_of(self, name: str) -> str:
        """The name of the queue that has this name or alias."""
        return self._aliases.get(name, name)

    def definition(self, name: str) -> QueueDefinition:
        """The queue of a name or alias; one that task_queues does not have is defined by the defaults."""
        name = self.name_of(name)
        return self._named.get(name) or self._missing.get(name) or self._new(name)

    def keep(self, found: QueueDefinition) -> None:
        """Have a queue defined like this, unless task_queues defines it."""
        self._missing[found.name] = found

    def required(self, name: str) -> QueueDefinition:
        """The same; raises QueueNotFound for a queue that may not be created."""
        if not self._conf.task_create_missing_queues:
            known = [*self._named, *self._aliases] or [self._conf.task_default_queue]
            if name not in known:
                near = did_you_mean(name, known)
                raise QueueNotFound(
                    f"task_queues has no queue '{name}'{near}, and task_create_missing_queues is false"
                )
        return self.definition(name)

    def destination(
        self, queue: Any, exchange: Any, routing_key: str | None, kind: str | None
    ) -> Destination:
        """Where a call with these options is sent. queue, exchange: names, or objects of kombu. Raises
        QueueNotFound."""
        by_name = queue is None or isinstance(queue, str)
        is_usual = by_name and exchange is None and routing_key is None and kind is None
        if is_usual and (known := self._direct.get(queue)) is not None:
            return known
        found: QueueDefinition | None
        if queue is None:
            found = self.required(self._conf.task_default_queue) if exchange is None else None
        else:
            found = self.required(queue) if isinstance(queue, str) else self._of(queue)
        own = found.own if found is not None else None
        exchange = getattr(exchange, "name", exchange)
        kind = kind or (own.kind if own is not None else "direct")
        if found is not None and kind == "direct" and not (exchange and routing_key):
            place = Destination("", found.name, found)
            if is_usual:
                self._direct[queue] = place
            return place
        if exchange is None and own is not None:
            exchange, routing_key = own.exchange, routing_key or own.routing_key
        return Destination(exchange or "", routing_key or "", found)

    def reachable(self, app: Any, place: Destination) -> tuple[str, str, str]:
        """(queue, exchange, routing key) to publish to, on this app's broker: the queue itself where there
        are no exchanges. Binds the queue at its first use. Raises BrokerDown."""
        found = place.queue
        assert found is not None
        if not app.broker.features.exchanges and found.own.kind != FANOUT:
            return found.name, "", ""
        if not found.is_broadcast and found.name not in self._bound:
            bind(app, [found.name])
            self._bound.add(found.name)
        return "", place.exchange, place.routing_key

    @cached_property
    def fanouts(self) -> dict[str, Binding]:
        """The exchanges that send a copy to each of their queues, by name."""
        return {b.exchange: b for found in self for b in found.bindings if b.kind == FANOUT}

    # --- definitions

    def _new(self, name: str) -> QueueDefinition:
        conf = self._conf
        is_default = name == conf.task_default_queue and not self._named
        quorum = conf.task_default_queue_type if is_default else conf.task_create_missing_queue_type
        if is_default:
            binding = self._default_binding()
        else:
            binding = Binding(name, conf.task_create_missing_queue_exchange_type or "direct", name)
        arguments = {"x-queue-type": "quorum"} if quorum == "quorum" else self._with_priority({})
        found = self._missing[name] = QueueDefinition(name, binding, (binding,), arguments)
        return found

    def _default_binding(self, routing_key: str | None = None) -> Binding:
        conf = self._conf
        exchange = conf.task_default_exchange or conf.task_default_queue
        key = routing_key or conf.task_default_routing_key or conf.task_default_queue
        return Binding(exchange, conf.task_default_exchange_type or "direct", key)

    def _with_priority(self, arguments: dict[str, Any], own: int | None = None) -> dict[str, Any]:
        conf = self._conf
        general = conf.broker_transport_options.get("max_priority") or conf.task_queue_max_priority
        most = own if own is not None else general
        return (
            {**arguments, "x-max-priority": arguments.get("x-max-priority", int(most))} if most else arguments
        )

    def _of_mapping(self, name: str, given: dict[str, Any]) -> QueueDefinition:
        """Of Celery's older form: {'exchange': …, 'exchange_type': …, 'routing_key': …}."""
        exchange, arguments = given.get("exchange"), dict(given.get("queue_arguments") or {})
        arguments = self._with_priority(arguments, given.get("max_priority"))
        key = str(given.get("routing_key") or given.get("binding_key") or name)
        if exchange is None:
            binding = self._default_binding(key)
            return QueueDefinition(name, binding, (binding,), arguments, is_explicit=True)
        kind = str(given.get("exchange_type") or getattr(exchange, "type", None) or "direct")
        binding = Binding(str(getattr(exchange, "name", exchange)), kind, key)
        return QueueDefinition(name, binding, (binding,), arguments, is_explicit=True)

    def _of(self, queue: Any) -> QueueDefinition:
        """Of a Queue of kombu, or of a name."""
        if isinstance(queue, str):
            return self._new(queue)
        conf, exchange, mode = self._conf, queue.exchange, None
        if exchange is not None and exchange.name:
            key = queue.routing_key or conf.task_default_routing_key or conf.task_default_queue
            own, mode = _binding(exchange, key), exchange.delivery_mode
        else:
            own = self._default_binding(queue.routing_key)
        more = [_binding(b.exchange, b.routing_key) for b in queue.bindings or () if b.exchange.name]
        return QueueDefinition(
            queue.name,
            own,
            tuple(more) or (own,),  # kombu's Queue has an exchange or a list of bindings
            self._with_priority(dict(queue.queue_arguments or {}), queue.max_priority),
            queue.durable,
            queue.exclusive,
            queue.auto_delete,
            queue.alias or "",
            mode,
            is_explicit=True,
            is_broadcast=own.kind == FANOUT and queue.auto_delete and bool(queue.alias),
        )


def _binding(exchange: Any, routing_key: str | None) -> Binding:
    arguments = dict(exchange.arguments or {}) or None
    kind = exchange.type or "direct"
    return Binding(exchange.name, kind, routing_key or "", exchange.durable, exchange.auto_delete, arguments)


def bind(app: Any, names: Collection[str]) -> None:
    """Bind those of the queues that task_queues binds; a binding that the broker does not have is logged."""
    for name in names:
        found = app.queue_table.definition(name)
        for binding in found.bindings:
            is_plain = binding[:3] == (found.name, "direct", found.name)  # every queue has this one
            is_broadcast = binding.kind == FANOUT and FANOUT not in app.broker.features.exchanges
            if is_plain or is_broadcast:
                continue
            try:
                app.broker.bind(found.name, binding)
            except (ConfigError, Unsupported) as exc:
                log.warning(
                    "'%s' is not bound to the exchange '%s' as task_queues says: %s",
                    found.name,
                    binding.exchange,
                    exc,
                )


def spread(broker: Broker, messages: Sequence[Message], fanouts: Collection[str]) -> list[Message]:
    """Publish those for fanout exchanges where the broker has none; returns the others. A message that
    reaches nobody is logged. Raises BrokerDown."""
    left = []
    for message in messages:
        if message.exchange not in fanouts or FANOUT in broker.features.exchanges:
            left.append(message)
        elif broker.broadcast(message.exchange, message.routing_key, message.raw) == 0:
            log.warning("no worker has a queue for the exchange '%s': nobody gets the call", message.exchange)
    return left
