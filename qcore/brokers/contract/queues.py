"""How a queue is declared: its exchange, its bindings, its arguments.

In:  what the settings say (app/queues.py).  Out: what a driver declares on the server.
The terms are those of AMQP 0.9.1; drivers without exchanges use the name alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

FANOUT = "fanout"


class Binding(NamedTuple):
    """A queue gets what is sent to `exchange`, of the type `kind`, with a key that matches `routing_key`."""

    exchange: str
    kind: str
    routing_key: str
    durable: bool = True
    auto_delete: bool = False
    arguments: dict[str, Any] | None = None  # of the exchange


class QueueDefinition(NamedTuple):
    """One queue."""

    name: str
    own: Binding  # to the exchange where calls that name the queue are sent
    bindings: tuple[Binding, ...]  # those that are declared
    arguments: dict[str, Any]
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    alias: str = ""  # the name that calls and workers use, if it differs
    delivery_mode: int | None = None  # of its exchange
    is_explicit: bool = False  # task_queues gives it with more than a name
    is_broadcast: bool = False  # each worker has one of its own


def plain(name: str) -> QueueDefinition:
    """A queue of which nothing but the name is known: on a direct exchange of its name, as Celery's."""
    own = Binding(name, "direct", name)
    return QueueDefinition(name, own, (own,), {})
