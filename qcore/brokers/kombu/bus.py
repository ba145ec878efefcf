"""Receiving ends of the control and event bus, and of result queues: own queues with one reader.

In:  an exchange and a pattern, or the name of a reply queue.  Out: envelope bytes, one by one.
Before this: broker.py.  Names, flags and times are those of kombu's pidbox and Celery's receiver.
"""

from __future__ import annotations

import logging
import select
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from amqp.exceptions import ChannelError, ResourceLocked

from qcore.base.times import new_id
from qcore.brokers.contract.subscription import Inbox
from qcore.brokers.kombu.connection import KombuConnection, WakeupSignal, is_sqs
from qcore.brokers.kombu.messages import incoming
from qcore.brokers.kombu.topology import Topology, bus_type
from qcore.errors import BrokerDown

log = logging.getLogger(__name__)

LOCKED_S = 3.0  # how long a killed connection may keep its exclusive queue
SLICE_S = 5.0  # heartbeats are sent at least this often


class BusState(msgspec.Struct, frozen=True):
    """A queue to receive from."""

    name: str
    exchange: str = ""  # '': the default exchange, which needs no binding
    key: str = ""
    expires_s: float | None = 10.0  # without a reader
    ttl_s: float | None = None  # of a message
    exclusive: bool = True
    durable: bool = False
    auto_delete: bool = True


class KombuListener(Inbox):
    """A subscription or an inbox, with its own connection."""

    def __init__(self, link: KombuConnection, place: BusState, key: str = "") -> None:
        self.key = key
        self._link, self._place = link, place
        self._slice_s = min(SLICE_S, link.heartbeat_s / 3 or SLICE_S)
        self._bell = WakeupSignal()
        self._arrived: deque[bytes] = deque()
        self._closed = False
        self._channel: Any = None
        with link.use():
            self._queue = self._declare()
            self._channel = link.channel()
            if link.native:
                self._channel.basic_consume(self._queue, no_ack=True, callback=self._on_message)

    def _declare(self) -> str:
        place, topology = self._place, Topology(self._link)
        self._exchange = place.exchange
        if place.exchange and self._link.native and bus_type(place.exchange)[0] == "fanout":
            self._exchange = topology.control_exchange(place.exchange)
        elif place.exchange:
            topology.bus_exchange(place.exchange)
        deadline, name, wait_s = time.monotonic() + LOCKED_S, place.name, 0.05
        while True:
            try:
                self._link.attempt(partial(self._declare_on, name))
                return name
            except (ResourceLocked, ChannelError) as exc:
                if exc.reply_code not in (405, 406):
                    raise
                if exc.reply_code == 405 and time.monotonic() < deadline:
                    time.sleep(wait_s)
                    wait_s = min(wait_s * 1.5, 0.5)
                    continue
                if name != place.name:
                    raise
                name = f"{place.name}.{new_id()[:8]}"
                log.warning("the queue %s is in use; listening on %s", place.name, name)

    def _declare_on(self, name: str, channel: Any) -> None:
        place = self._place
        times = {"x-expires": place.expires_s, "x-message-ttl": place.ttl_s}
        arguments = {name: int(time_s * 1000) for name, time_s in times.items() if time_s is not None}
        channel.queue_declare(
            name,
            durable=place.durable,
            exclusive=place.exclusive,
            auto_delete=place.auto_delete,
            arguments=arguments if self._link.native else None,
        )
        if self._exchange:
            channel.queue_bind(name, self._exchange, routing_key=place.key)
        if not self._link.native and not is_sqs(self._link.url):  # SQS allows one purge a minute
            with suppress(NotImplementedError):  # the transport of Kafka has no purge
                channel.queue_purge(name)  # an emulation continues to fill deleted queues

    def _on_message(self, message: Any) -> None:
        self._arrived.append(incoming(message, self._queue, self._link.native).raw)

    def get(self, timeout_s: float | None) -> bytes | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._link.lock:
                if self._arrived:
                    return self._arrived.popleft()
                if self._closed:
                    return None
                self._read()
                if self._arrived:
                    return self._arrived.popleft()
                fd = self._link.fileno()
            left = self._slice_s if deadline is None else min(deadline - time.monotonic(), self._slice_s)
            if left <= 0 and deadline is not None and time.monotonic() >= deadline:
                return None
            self._sleep(fd, max(left, 0.0))

    def _read(self) -> None:
        with self._link.use(connect=False):
            if self._link.native:
                self._link.pump()
                self._link.tick()
            else:
                message = self._link.next_message(self._channel, self._queue, no_ack=True)
                if message is not None:
                    self._on_message(message)

    def _sleep(self, fd: int, longest_s: float) -> None:
        if not self._link.native:
            time.sleep(min(longest_s, self._link.poll_s))
            return
        poll = select.poll()
        for number in (fd, self._bell.fileno()):
            if number >= 0:
                poll.register(number, select.POLLIN)
        poll.poll(longest_s * 1000)

    def close(self) -> None:
        with self._link.lock:
            if self._closed:
                return
            self._closed = True
            self._bell.ring()  # wakes a thread that waits in get()
            if not self._link.native and self._link.is_open:
                try:
                    with self._link.use(connect=False):
                        self._channel.queue_delete(self._queue)
                except BrokerDown:
                    pass
            self._link.close()
