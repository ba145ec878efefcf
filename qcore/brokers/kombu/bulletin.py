"""Bulletin queues: messages are read without being acknowledged, and expire by TTL.

In:  a name, notes.  Out: the current notes, oldest first.
AMQP cannot read a queue without consuming it, so a reader takes all notes at once as the exclusive
consumer, and releases them unacknowledged, which restores their places. It takes milliseconds;
another reader waits meanwhile.
Before this: broker.py (members, revoked ids).
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from amqp.exceptions import AccessRefused, ChannelError, NotFound, PreconditionFailed

from qcore.base.times import new_id
from qcore.brokers.kombu.connection import KombuConnection
from qcore.brokers.kombu.messages import PERSISTENT, Outgoing
from qcore.brokers.kombu.publisher import Publisher
from qcore.errors import BrokerBusy

NOTES_MOST = 20_000  # beyond that the oldest is dropped
WAIT_S, PAUSE_S = 10.0, 0.01  # for another reader
READS_MOST = 100


class Bulletin(msgspec.Struct):
    """One note. Times are epoch seconds in the clock of its writer."""

    topic: str
    at: float
    until: float
    data: Any = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Bulletin).decode


class BulletinQueue:
    """One bulletin queue, durable."""

    def __init__(self, link: KombuConnection, publisher: Publisher, name: str) -> None:
        self.name = name
        self._link, self._publisher = link, publisher
        self._epoch = -1

    # Both require the link to be held and open.

    def post(self, notes: list[Bulletin], keep_s: float = 0.0, longest_s: float = 0.0) -> None:
        """Publish notes. They stay readable until keep_s after their time. Raises BrokerDown, BrokerFull
        after longest_s seconds (0: as any publish)."""
        now = time.time()
        batch = []
        for note in notes:
            raw = _encode(note)
            properties = {
                "content_type": "application/json",
                "message_id": new_id(),
                "delivery_mode": PERSISTENT,
                "expiration": str(max(int((note.until + keep_s - now) * 1000), 1)),
            }
            batch.append((Outgoing(raw, properties, "", self.name, mandatory=True), raw))
        self._declare()
        if self._publisher.send(batch, longest_s):
            self._epoch = -1  # the queue was deleted
            self._declare()
            self._publisher.send(batch, longest_s)

    def _declare(self) -> None:
        if self._epoch == self._link.epoch:
            return

        def declare(channel: Any) -> None:
            arguments = {"x-max-length": NOTES_MOST}
            channel.queue_declare(self.name, durable=True, auto_delete=False, arguments=arguments)

        try:
            self._link.attempt(declare)
        except (PreconditionFailed, AccessRefused):
            pass  # it exists with other arguments, or we may not declare it; sending finds out
        self._epoch = self._link.epoch

    def read(self) -> list[Bulletin]:
        """All notes. Empty when the queue does not exist or may not be read. Raises BrokerBusy when another
        client reads it for more than WAIT_S seconds."""
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                return self._link.attempt(self._take_all)
            except NotFound:
                return []
            except AccessRefused as exc:
                # The same code for another reader, which is soon done, and for a missing permission.
                if "exclusive" not in str(exc.reply_text):
                    return []
                if time.monotonic() > deadline:
                    raise BrokerBusy(
                        f"another client reads the queue {self.name} for over {WAIT_S:.0f} s"
                    ) from exc
                time.sleep(PAUSE_S)
            except ChannelError:
                return []

    def _take_all(self, channel: Any) -> list[Bulletin]:
        arrived: list[Any] = []
        channel.basic_consume(self.name, exclusive=True, callback=arrived.append)
        for _ in range(READS_MOST):
            # Answered after all messages that the queue sent before it.
            if not channel.queue_declare(self.name, passive=True).message_count:
                break
        notes = []
        for message in arrived:
            try:
                notes.append(_decode(bytes(message.body)))
            except msgspec.MsgspecError:
                continue  # not a note of qcore
        return notes
