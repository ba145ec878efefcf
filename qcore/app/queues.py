"""What task_queues says of queues besides their names: exchanges, bindings, arguments.

In:  the setting task_queues: names, kombu's Queue objects, or a mapping of names to options, as in Celery.
Out: definitions; a worker binds its queues as they say, and RabbitMQ's driver declares with their arguments.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from qcore.errors import ConfigError, Unsupported

log = logging.getLogger("qcore.worker")


class Binding(NamedTuple):
    """A queue gets what is sent to `exchange`, of the type `kind`, with a key that matches `routing_key`."""

    exchange: str
    kind: str
    routing_key: str


class QueueDefinition(NamedTuple):
    """One queue of task_queues."""

    name: str
    bindings: tuple[Binding, ...]
    arguments: dict[str, Any]


def definitions(task_queues: Any) -> Iterator[QueueDefinition]:
    """The queues that are given with more than a name."""
    items = task_queues.items() if isinstance(task_queues, dict) else ((None, q) for q in task_queues or ())
    for name, given in items:
        if isinstance(given, dict):
            yield _of_mapping(str(name), given)
        elif not isinstance(given, str):
            yield _of_queue(given)


def _of_mapping(name: str, given: dict[str, Any]) -> QueueDefinition:
    """Of Celery's older form: {'exchange': …, 'exchange_type': …, 'routing_key': …}."""
    exchange, arguments = given.get("exchange"), dict(given.get("queue_arguments") or {})
    if given.get("max_priority") is not None:
        arguments["x-max-priority"] = given["max_priority"]
    if exchange is None:
        return QueueDefinition(name, (), arguments)
    kind = str(given.get("exchange_type") or getattr(exchange, "type", None) or "direct")
    key = str(given.get("routing_key") or given.get("binding_key") or name)
    return QueueDefinition(name, (Binding(str(getattr(exchange, "name", exchange)), kind, key),), arguments)


def _of_queue(queue: Any) -> QueueDefinition:
    """Of a Queue of kombu. One without an exchange has no binding: its messages are sent to it by name."""
    arguments = dict(queue.queue_arguments or {})
    if queue.max_priority is not None:
        arguments["x-max-priority"] = queue.max_priority
    own = [(queue.exchange, queue.routing_key)] if queue.exchange is not None else []
    pairs = [*own, *((b.exchange, b.routing_key) for b in queue.bindings or ())]
    bindings = (Binding(e.name, e.type or "direct", key or "") for e, key in pairs if e.name)
    return QueueDefinition(queue.name, tuple(bindings), arguments)


def arguments_of(task_queues: Any) -> dict[str, dict[str, Any]]:
    """The arguments of queues that have some: those of AMQP, by queue."""
    return {found.name: found.arguments for found in definitions(task_queues) if found.arguments}


def bind(app: Any, queues: Collection[str]) -> None:
    """Bind those of `queues` that task_queues binds; a binding that the broker does not have is logged."""
    for found in definitions(app.conf.task_queues):
        for binding in found.bindings:
            is_plain = binding == (found.name, "direct", found.name)  # every queue has this one
            if found.name not in queues or is_plain:
                continue
            try:
                app.broker.bind(found.name, *binding)
            except (ConfigError, Unsupported) as exc:
                log.warning(
                    "'%s' is not bound to the exchange '%s' as task_queues says: %s",
                    found.name,
                    binding.exchange,
                    exc,
                )
