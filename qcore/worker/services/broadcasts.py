"""Broadcast queues on brokers without fanout exchanges: each worker has a queue of its own for each of them.

In:  what is published to a fanout exchange of task_queues, by Celery's clients too.  Out: the same messages
in this worker's own queue, from which it takes them as any other: they are acknowledged, and survive a
restart. A worker gets what is published while it runs. On RabbitMQ the server does all of this.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from qcore.brokers.base import Broker
from qcore.brokers.contract.queues import FANOUT, QueueDefinition
from qcore.brokers.contract.records import Message
from qcore.brokers.contract.subscription import Subscription
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerError

log = logging.getLogger("qcore.worker")


def own_name(found: QueueDefinition, node: str) -> str:
    """The name of a worker's own queue for a broadcast queue."""
    return f"{found.alias or found.name}.{node}"


class Broadcasts:
    """A service of the worker: a thread for each broadcast queue."""

    def __init__(self, app: Any, node: str, found: list[QueueDefinition]) -> None:
        self._app, self._node, self._found = app, node, found
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for found in self._found:
            broker = open_broker(self._app.broker_url(), self._app.broker_options())
            ear = broker.subscribe(found.own.exchange, found.own.routing_key)
            name = own_name(found, self._node)
            thread = threading.Thread(target=self._serve, args=(broker, ear, name), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=3.0)

    def _serve(self, broker: Broker, ear: Subscription, queue: str) -> None:
        wait_s, raw = 0.1, None
        while not self._stop.is_set():
            try:
                raw = raw or ear.get(0.2)
                if raw is not None:
                    broker.publish([Message(raw, queue=queue)])
                raw, wait_s = None, 0.1
            except BrokerError as exc:  # the subscription comes back by itself; `raw` is published then
                log.debug("%s: %s", queue, exc)
                self._stop.wait(wait_s)
                wait_s = min(wait_s * 2, 2.0)
        try:
            ear.close()
        except BrokerError as exc:
            log.debug("%s: %s", queue, exc)
        broker.close()


def taken(app: Any, names: tuple[str, ...], node: str) -> tuple[tuple[str, ...], list[QueueDefinition]]:
    """The names of the queues that a worker consumes instead of `names`, and the broadcast queues that need
    this service."""
    table, own = app.queue_table, list[QueueDefinition]()
    found = []
    for name in names:
        definition = table.definition(name)
        if definition.own.kind == FANOUT and FANOUT not in app.broker.features.exchanges:
            own.append(definition)
            found.append(own_name(definition, node))
        else:
            found.append(definition.name)
    return tuple(dict.fromkeys(found)), own
