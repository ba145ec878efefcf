"""One owner of deliveries on an AMQP broker, or on one of kombu's emulations of one.

In:  queue names.  Out: Delivery records, and their settlements.
Before this: worker/loop.py.  Messages arrive in one of two ways: pushed, after arm() or once
prefetch() has set the window; pulled one by one otherwise, which is exact and the only way of an
emulation but SQS (long_polls.py). A delivery belongs to its connection; when that ends, the broker
redelivers it.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from qcore.base.crashpoints import crashpoint
from qcore.base.times import new_id
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.records import Delivery, Message, Settle, Settlement, sent_again
from qcore.brokers.kombu import frame_writer
from qcore.brokers.kombu.connection import POLL_S, KombuConnection, WakeupSignal, is_sqs
from qcore.brokers.kombu.long_polls import LongPolls
from qcore.brokers.kombu.messages import incoming
from qcore.brokers.kombu.publisher import Publisher
from qcore.brokers.kombu.topology import Topology
from qcore.errors import BrokerDown, BrokerError

log = logging.getLogger(__name__)

SAFETY_NET_S = 5.0  # fallback poll interval in case a wake-up is missed
#: for so long pushed messages of a wider window may wait for a worker that is full; then others get them
FULL_S = 0.1
#: after that, the window stays as prefetch() said for so long
NARROW_S = 5.0


class HeldMessage(msgspec.Struct):
    """An unacknowledged message of this consumer."""

    epoch: int
    tag: Any
    delivery: Delivery


class KombuConsumer(Consumer):
    """Deliveries of one connection at a time."""

    gather_s = 0.003

    def __init__(
        self, link: KombuConnection, queues: Sequence[str], sender: KombuConnection | None = None
    ) -> None:
        """sender is the connection for messages that follow from tasks. A broker that is short of memory or
        disk stops reading from publishing connections: acknowledgements must not wait behind that."""
        self.queues = tuple(queues)
        self._link, self._topology = link, Topology(link)
        self._sender = sender or link
        self._publisher, self._places = Publisher(self._sender), Topology(self._sender)
        self._bell = WakeupSignal()
        self._numbers = itertools.count(1)
        self._held: dict[int, HeldMessage] = {}  # delivered to the caller
        self._arrived: dict[str, deque[Any]] = {}  # pushed, not yet claimed
        self._parked: list[tuple[float, int, HeldMessage]] = []  # delayed here, where the broker cannot delay
        self._prefetch: int | None = None
        self._ahead = 0  # the window of look_ahead(), while it applies
        self._narrow_until = 0.0
        self._full_since: float | None = None
        self._channel: Any = None
        self._consuming: dict[str, str] = {}  # queue -> consumer tag
        self._spent: set[str] = set()  # queues whose window of one is used up: they cannot wake us
        self._epoch = -1
        self._pushed = False
        self._claiming = False
        self._polls: LongPolls | None = None  # on SQS
        with link.use():
            self._ready()

    # --- claim

    def claim(self, limit: int) -> list[Delivery]:
        with self._link.use(connect=False):
            self._ready()
            self._claiming = True
            try:
                return self._claim(limit)
            finally:
                self._claiming = False

    def _claim(self, limit: int) -> list[Delivery]:
        found = self._due(limit)
        if self._link.native:
            self._link.pump()
            if self._prefetch is not None:
                self._consume()
            for queue in self.queues:
                waiting = self._arrived.get(queue)
                while waiting and len(found) < limit:
                    self._take(waiting.popleft(), queue, found)
                    self._full_since = None
            if not any(self._arrived.values()):
                self._bell.drain_pipe()
            if self._prefetch is not None:
                return found
        if self._polls is not None:
            for queue, message in self._polls.take(self.queues, limit - len(found), self._channel):
                self._take(message, queue, found)
            if not found:
                return found
        for queue in self.queues:
            while len(found) < limit:
                message = self._link.next_message(self._channel, queue)
                if message is None:
                    break
                self._take(message, queue, found)
        return found

    def _take(self, message: Any, queue: str, found: list[Delivery]) -> None:
        """Deliver a message, or hold it for the rest of its delay: less than a second where
        the broker delays by whole seconds, all of it where the broker cannot delay."""
        came = incoming(message, queue, self._link.native)
        delivery = Delivery(
            number=next(self._numbers),
            queue=queue,
            raw=came.raw,
            redelivered=came.redelivered,
            deliveries=came.deliveries,
            handle=(self._link.epoch, came.tag),
        )
        held = HeldMessage(self._link.epoch, came.tag, delivery)
        if came.due_at > time.time():
            heapq.heappush(self._parked, (came.due_at, delivery.number, held))
        else:
            self._held[delivery.number] = held
            found.append(delivery)

    def _due(self, limit: int) -> list[Delivery]:
        """Up to `limit` parked messages that are due, with new numbers."""
        found: list[Delivery] = []
        while self._parked and len(found) < limit and self._parked[0][0] <= time.time():
            _, _, held = heapq.heappop(self._parked)
            again = msgspec.structs.replace(held.delivery, number=next(self._numbers))
            self._held[again.number] = HeldMessage(held.epoch, held.tag, again)
            found.append(again)
        return found

    def _ready(self) -> None:
        """Open a channel of the current connection and declare the queues; drop older deliveries."""
        if self._epoch == self._link.epoch and self._channel is not None:
            return
        self._held.clear()
        self._arrived.clear()
        self._parked.clear()
        self._consuming.clear()
        self._spent.clear()
        self._channel = self._link.channel()
        self._epoch = self._link.epoch
        if is_sqs(self._link.url):
            self._polls = LongPolls(self._link, self._bell, self._polls)
        for queue in self.queues:
            self._topology.queue(queue)
        if self._pushed:
            self._consume()

    def _consume(self) -> None:
        """Start consuming, so that the broker pushes messages."""
        if not self._pushed or not self._consuming:
            self._set_window()
        self._pushed = True
        for queue in self.queues:
            if queue not in self._consuming:
                tag = f"qcore-{new_id()}"
                self._consuming[queue] = tag
                self._channel.basic_consume(
                    queue,
                    consumer_tag=tag,
                    callback=partial(self._on_message, queue),
                    on_cancel=self._on_cancel,
                )

    def _set_window(self) -> None:
        # Not global: RabbitMQ 4 has only this kind, which counts per consumer and so per queue.
        self._channel.basic_qos(0, min(self._ahead or self._prefetch or 1, 65535), False)

    def _on_message(self, queue: str, message: Any) -> None:
        self._arrived.setdefault(queue, deque()).append(message)
        if self._prefetch is None:
            self._spent.add(queue)
        if not self._claiming:
            # Read together with another answer, or by the renewing thread: the descriptor of the connection
            # will not become readable for it.
            self._bell.ring()

    def _on_cancel(self, tag: str) -> None:
        """The queue was deleted; it is declared again when the next claim finds no consumer on it."""
        for queue, mine in list(self._consuming.items()):
            if mine == tag:
                del self._consuming[queue]
                self._topology.forget(queue)
                self._topology.queue(queue)
                self._bell.ring()

    def set_queues(self, queues: Sequence[str]) -> None:
        gone = [q for q in self.queues if q not in queues]
        self.queues = tuple(queues)  # a reconnection subscribes to these
        with self._link.use(connect=False):
            self._ready()
            for queue in self.queues:
                self._topology.queue(queue)
            for queue in gone:
                self._stop(queue)
            if self._polls is not None:
                self._polls.leave(gone)
            if self._pushed:
                self._consume()

    # --- wake-up

    def fds(self) -> list[int]:
        if self._polls is not None:
            return [self._bell.fileno()]
        number = self._link.fileno()
        return [number, self._bell.fileno()] if number >= 0 else []

    def arm(self) -> None:
        if self._polls is not None:
            self._polls.want(self.queues)
        if not self._link.native:
            return
        with self._link.use(connect=False):
            self._ready()
            for queue in [q for q in self._spent if not self._arrived.get(q)]:
                self._stop(queue)  # the next consumer has a window of its own
            self._consume()
            if any(self._arrived.values()):
                self._bell.ring()

    def disarm(self) -> None:
        """Return pushed messages that are not claimed: another worker may have free slots. With a
        prefetch() they stay, since then that many are to be held; those of a wider window for a moment."""
        if self._polls is not None:
            self._polls.want(())
        if not self._consuming or not self._link.is_open:
            return
        if self._prefetch is not None:
            if self._ahead and any(self._arrived.values()):
                now = time.monotonic()
                self._full_since = self._full_since or now
                if now - self._full_since >= FULL_S:
                    self._narrow_until = now + NARROW_S
                    self.look_ahead(0)
            return
        with self._link.use(connect=False):
            self._ready()
            self._pushed = False
            for queue in list(self._consuming):
                self._stop(queue)
            self._bell.drain_pipe()

    def _stop(self, queue: str) -> None:
        """Cancel the consumer of this queue; return pushed messages that are not claimed."""
        tag = self._consuming.pop(queue, None)
        if tag is not None:
            self._channel.basic_cancel(tag)
        self._spent.discard(queue)
        for message in reversed(self._arrived.pop(queue, ())):
            self._channel.basic_reject(message.delivery_tag, requeue=True)

    def wake(self, fd: int) -> tuple[()]:
        if self._link.native:
            with self._link.use(connect=False):
                if fd == self._bell.fileno():
                    self._bell.drain_pipe()
                self._claiming = True
                try:
                    self._link.pump()
                finally:
                    self._claiming = False
        elif fd == self._bell.fileno():
            self._bell.drain_pipe()
        return ()

    def idle_s(self) -> float:
        if any(self._arrived.values()):
            return 0.0
        wakes = self._polls or (self._link.native and self._link.is_open and not self._spent)
        longest = SAFETY_NET_S if wakes else POLL_S if self._link.native else self._link.poll_s
        if self._parked:
            longest = min(longest, max(self._parked[0][0] - time.time(), 0.0))
        return longest

    def prefetch(self, count: int) -> None:
        self._prefetch, self._ahead, self._full_since = max(count, 1), 0, None
        if self._pushed and self._link.native:
            with self._link.use(connect=False):
                self._ready()
                # A consumer keeps the window that was set before it began.
                for queue in list(self._consuming):
                    self._stop(queue)
                self._consume()

    def look_ahead(self, count: int) -> None:
        if self._prefetch is None or not self._link.native:
            return
        if not count:
            if self._ahead:
                self.prefetch(self._prefetch)
        elif (
            count >= 2 * (self._ahead or self._prefetch) <= 2 * len(self._held)  # and the window is used
            and self._pushed
            and time.monotonic() >= self._narrow_until
        ):
            with self._link.use(connect=False):
                self._ready()
                self._ahead = count
                for queue in list(self._consuming):  # what has arrived stays
                    self._channel.basic_cancel(self._consuming.pop(queue))
                self._set_window()
                self._consume()

    # --- settling

    def settle(self, settlements: Sequence[Settlement]) -> list[int]:
        with self._link.use(connect=False):
            self._ready()
            if self._link.native:
                self._link.pump()  # detect the end of the connection before anything is sent on it
            refused: list[int] = []
            ours: list[Settlement] = []
            seen: set[int] = set()
            for one in settlements:
                number = one.delivery.number
                held = self._held.get(number)
                if held is None or held.epoch != self._link.epoch or number in seen:
                    refused.append(number)
                else:
                    seen.add(number)
                    ours.append(one)
        crashpoint("before_settle")
        sending = [one for one in ours if one.sends or one.action in (Settle.DELAY, Settle.QUARANTINE)]
        if sending and len(sending) < len(ours):
            # A broker short of memory or disk must not delay these settlements as well.
            with self._link.use(connect=False):
                self._end([one for one in ours if one not in sending], set())
            ours = sending
        # Not under the lock: heartbeats continue while the broker takes its time.
        try:
            back = self._send(ours)
        except BrokerError:
            for one in ours:  # they may have been stored all the same
                one.sends = tuple(map(sent_again, one.sends))
            raise
        with self._link.use(connect=False):
            self._end(ours, back)
        crashpoint("settled")
        return refused

    def _send(self, settlements: Sequence[Settlement]) -> set[int]:
        """Publish all messages that follow from them, confirmed; returns the numbers of deliveries that could
        not be delayed. An unroutable continuation is quarantined: refusing its settlement would only
        redeliver the task."""
        messages: list[Message] = []
        owners: list[Settlement] = []
        aside: list[tuple[bytes, str, str]] = []
        for one in settlements:
            messages += one.sends
            owners += [one] * len(one.sends)
            if one.action is Settle.DELAY and self._link.native:
                delivery = one.delivery
                messages.append(Message(delivery.raw, queue=delivery.queue, due_at=one.due_at))
                owners.append(one)
            elif one.action is Settle.QUARANTINE:
                aside.append((one.delivery.raw, one.delivery.queue, one.reason))
        back: set[int] = set()
        if messages or aside:
            with self._sender.lock:
                self._sender.refresh()
                with self._sender.use():
                    self._deliver(messages, owners, aside, back)
        crashpoint("sent_before_ack")
        return back

    def _deliver(
        self,
        messages: list[Message],
        owners: list[Settlement],
        aside: list[tuple[bytes, str, str]],
        back: set[int],
    ) -> None:
        for index, reason in self._publisher.deliver(messages, self._places).items():
            message, owner = messages[index], owners[index]
            if message in owner.sends:
                where = message.queue or f"{message.exchange}/{message.routing_key}"
                log.error("a message for %s found no queue and is in quarantine: %s", where, reason)
                aside.append((message.raw, where, "unroutable"))
            else:
                back.add(owner.delivery.number)
        self._publisher.set_aside(aside, self._places)

    def _end(self, settlements: Sequence[Settlement], back: set[int]) -> None:
        done: list[Any] = []
        returned: list[Any] = []
        for one in settlements:
            held = self._held.pop(one.delivery.number)
            if one.action in (Settle.REQUEUE, Settle.RETURN) or one.delivery.number in back:
                returned.append(held.tag)
            elif one.action is Settle.DELAY and not self._link.native:
                heapq.heappush(self._parked, (one.due_at, one.delivery.number, held))
            else:
                done.append(held.tag)
        if self._link.native:
            channel = self._channel.channel_id
            frames = [frame_writer.ack(channel, *one) for one in self._acknowledgements(done, returned)]
            frames += [frame_writer.requeue(channel, tag) for tag in sorted(returned, reverse=True)]
            frame_writer.write(self._link.native_connection, frames)
        else:
            for tag in done:
                self._channel.basic_ack(tag)
            for tag in sorted(returned, reverse=True):
                self._channel.basic_reject(tag, requeue=True)
        if returned and self._link.native:
            # Rejects have no answer. This has one, after them, so another consumer finds the messages now.
            self._set_window()

    def _acknowledgements(self, tags: list[int], returned: list[int]) -> list[tuple[int, bool]]:
        """(tag, whether it stands for all before it) of these; returned: tags that are rejected next, which
        no acknowledgement may include."""
        found: list[tuple[int, bool]] = []
        if len(tags) > 1:
            # One frame for all up to the oldest message that stays unacknowledged.
            others = [*returned, *(h.tag for h in self._held.values())]
            others += [m.delivery_tag for waiting in self._arrived.values() for m in waiting]
            others += [held.tag for _, _, held in self._parked]
            tags.sort()
            upto = min(others, default=tags[-1] + 1)
            below = [tag for tag in tags if tag < upto]
            if below:
                found.append((below[-1], True))
                tags = tags[len(below) :]
        return found + [(tag, False) for tag in tags]

    # --- liveness

    def renew(self) -> bool:
        if not self._link.native:
            return True
        try:
            with self._link.use(connect=False):
                self._link.tick()
        except BrokerDown as exc:
            log.debug("a consumer lost its connection: %s", exc)
            return False
        return True

    def reap(self) -> int:
        return 0  # the broker does it when a connection ends

    def reconnect(self) -> None:
        """Keep a connection that still works, with all its deliveries: the error may have come from the
        sending connection, or from the result store."""
        with self._link.lock:
            if not self._link.native or not self.renew():
                self._link.drop()
            with self._link.use():
                self._ready()

    def close(self) -> None:
        if self._polls is not None:
            self._polls.close()
        try:
            with self._link.use(connect=False):
                if self._epoch == self._link.epoch:
                    self._give_back()
        except BrokerDown:
            pass  # then the broker returns them itself
        self._link.close()
        self._sender.close()
        self._bell.close()

    def _give_back(self) -> None:
        for tag in self._consuming.values():
            self._channel.basic_cancel(tag)
        self._consuming.clear()
        tags = [held.tag for held in self._held.values()]
        tags += [message.delivery_tag for waiting in self._arrived.values() for message in waiting]
        tags += [held.tag for _, _, held in self._parked]
        for tag in sorted(tags, reverse=True):
            self._channel.basic_reject(tag, requeue=True)
        self._held.clear()
        self._arrived.clear()
        self._parked.clear()
        if tags and self._link.native:
            self._set_window()
