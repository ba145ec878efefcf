"""Receive events: what workers and clients publish.

In:  a broker.  Out: batches of event mappings.  Format: wire/event.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qcore.brokers.base import Broker
from qcore.errors import Malformed
from qcore.wire import event as wire
from qcore.wire.event import Event

TICK_S = 0.5


@contextmanager
def listen(
    broker: Broker,
    pattern: str = "#",
    exchange: str = wire.EXCHANGE,
    on_unreadable: Callable[[int], None] | None = None,
    serializer: str = "json",
) -> Iterator[Iterator[list[Event]]]:
    """Subscribe to the events from now on.

    pattern is a topic pattern of routing keys ('#', 'worker.#', 'task.#'). The iterator returns one
    list for each message, and an empty list every half second without a message, so that its
    user regains control. Raises BrokerDown. Unreadable messages, and list items that are
    not events, are left out; on_unreadable gets their number. serializer: the setting event_serializer.
    """
    ear, accept = broker.subscribe(exchange, pattern), wire.accepted(serializer)

    def batches() -> Iterator[list[Event]]:
        while True:
            raw = ear.get(TICK_S)
            if raw is None:
                yield []
                continue
            try:
                batch, bad = wire.decode_counted(raw, accept)
            except Malformed:
                batch, bad = [], 1
            if on_unreadable is not None and bad:
                on_unreadable(bad)
            if batch:
                yield batch

    try:
        yield batches()
    finally:
        ear.close()
