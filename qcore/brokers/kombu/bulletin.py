"""Notice boards: queues that everybody reads and nobody empties. Notes leave when their time is over.

In:  a name, notes.  Out: the notes that are there, oldest first.
AMQP has no place that can be looked at, so who reads takes all notes at once, with the right to be the
only one, and lets go of them unacknowledged: they are back in their places. It takes milliseconds;
who comes in between waits.
Before this: broker.py (who is there, what was revoked).
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from amqp.exceptions import AccessRefused, ChannelError, NotFound, PreconditionFailed

from qcore.base.times import new_id
from qcore.brokers.kombu.connection import Link
from qcore.brokers.kombu.messages import PERSISTENT, Outgoing
from qcore.brokers.kombu.publisher import Publisher

NOTES_MOST = 20_000  # then the oldest is dropped
WAIT_S, PAUSE_S = 0.5, 0.01  # for another reader
READS_MOST = 100


class Note(msgspec.Struct):
    """What hangs there. Times are epoch seconds of the clock of whoever wrote it."""

    topic: str
    at: float
    until: float
    data: Any = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Note).decode


class Board:
    """One such queue, durable."""

    def __init__(self, link: Link, publisher: Publisher, name: str) -> None:
        self.name = name
        self._link, self._publisher = link, publisher
        self._epoch = -1

    # Both are called under the link, which is open.

    def post(self, notes: list[Note], keep_s: float = 0.0, longest_s: float = 0.0) -> None:
        """Hang these up. They can be read until keep_s after their time. Raises BrokerDown, BrokerFull
        after longest_s (0: as any publish)."""
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
            self._epoch = -1  # somebody has deleted it
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
            pass  # it is there in another form, or only others may make it; sending will tell
        self._epoch = self._link.epoch

    def read(self) -> list[Note]:
        """All notes. Nothing when there is no board, or when it may not be read."""
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                return self._link.attempt(self._take_all)
            except NotFound:
                return []
            except AccessRefused as exc:
                # The same code for another reader, who is soon done, and for a lack of rights.
                if "exclusive" not in str(exc.reply_text) or time.monotonic() > deadline:
                    return []
                time.sleep(PAUSE_S)
            except ChannelError:
                return []

    def _take_all(self, channel: Any) -> list[Note]:
        arrived: list[Any] = []
        channel.basic_consume(self.name, exclusive=True, callback=arrived.append)
        for _ in range(READS_MOST):
            # Answered after all that the queue had sent before it.
            if not channel.queue_declare(self.name, passive=True).message_count:
                break
        notes = []
        for message in arrived:
            try:
                notes.append(_decode(bytes(message.body)))
            except msgspec.MsgspecError:
                continue  # not one of ours
        return notes
