"""Publish on a channel in confirm mode: many messages, one wait, and the unroutable ones.

In:  a Link (held) and Outgoing messages.  Out: the broker has stored them, or which it returned.
Before this: broker.py and consumer.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from qcore.base.times import new_id
from qcore.brokers.contract.records import Message, confirm_within_s
from qcore.brokers.kombu import frame_writer
from qcore.brokers.kombu.connection import ANSWER_S, KombuConnection
from qcore.brokers.kombu.messages import NAME_BYTES, OPAQUE, PERSISTENT, Outgoing, outgoing
from qcore.brokers.kombu.topology import FIRST_EXCHANGE, QUARANTINE, Topology, delay_key
from qcore.errors import BrokerDown, BrokerFull, Unroutable


class Publisher:
    """The publishing channel of one link; a broken channel is never used again."""

    def __init__(self, link: KombuConnection) -> None:
        self.link = link
        self._channel: Any = None
        self._epoch = -1
        self._trusted = False
        self._sent = 0  # publishes on this channel; confirms use the same count
        self._waiting: dict[int, int] = {}  # publish number -> index in the batch
        self._places: dict[str, int] = {}  # message id -> index in the batch
        self._failed: dict[int, str] = {}
        self._refused = False

    def deliver(self, messages: Sequence[Message], topology: Topology) -> dict[int, str]:
        """Publish each message to its destination; returns the indexes of the unroutable ones, and why.

        A queue that was deleted since it was last seen is declared again: a returned message was
        not stored, so sending it once more does not duplicate it.
        """
        failed = self._deliver(dict(enumerate(messages)), topology)
        lost = {i: messages[i] for i in failed if messages[i].queue}
        if lost:
            for message in lost.values():
                topology.forget(message.queue)
            failed = {i: why for i, why in failed.items() if i not in lost}
            failed.update(self._deliver(lost, topology))
        return failed

    def _deliver(self, messages: dict[int, Message], topology: Topology) -> dict[int, str]:
        failed: dict[int, str] = {}
        batch: list[tuple[Outgoing, bytes]] = []
        indexes: list[int] = []
        for index, message in messages.items():
            try:
                batch.append((route(topology, message), message.raw))
                indexes.append(index)
            except Unroutable as exc:
                failed[index] = str(exc)
        failed.update({indexes[i]: why for i, why in self.send(batch).items()})
        return failed

    def set_aside(self, messages: Sequence[tuple[bytes, str, str]], topology: Topology) -> None:
        """Put (bytes, queue, reason) into quarantine, the bytes unchanged."""
        if not messages:
            return
        topology.quarantine()
        now = time.time()
        self.send(
            [
                (
                    Outgoing(
                        raw,
                        {
                            "content_type": OPAQUE,
                            "message_id": new_id(),
                            "delivery_mode": PERSISTENT,
                            "application_headers": {"reason": reason, "queue": queue, "at": now},
                        },
                        "",
                        QUARANTINE,
                        True,
                    ),
                    raw,
                )
                for raw, queue, reason in messages
            ]
        )

    def send(self, batch: Sequence[tuple[Outgoing, bytes]], longest_s: float = 0.0) -> dict[int, str]:
        """Publish (message, its envelope bytes) in order; returns the indexes of the unroutable ones,
        with the reason. Raises BrokerDown and BrokerFull when no confirm arrives for longest_s seconds
        (0: those of the call, else the option `confirm_timeout`)."""
        if not batch:
            return {}
        self._open()
        self._waiting.clear()
        self._places.clear()
        self._failed, self._refused = {}, False
        for index, (message, _) in enumerate(batch):
            for name in (message.exchange, message.routing_key):
                if len(name.encode()) > NAME_BYTES:
                    self._failed[index] = f"the name is longer than {NAME_BYTES} bytes"
        good = [(i, message, raw) for i, (message, raw) in enumerate(batch) if i not in self._failed]
        if self.link.native:
            try:
                frame_writer.write(self.link.native_connection, map(self._frames, good), self.link.pump)
                usual_s = float(self.link.options.get("confirm_timeout") or ANSWER_S)
                self._wait(longest_s or confirm_within_s.get() or usual_s)
            except BaseException:
                # Late confirms may still arrive and would be counted for other messages.
                self._trusted = False
                raise
            if self._refused:
                raise BrokerFull(f"the broker at {self.link.shown_url} has no space for one more message")
        else:
            for _, message, raw in good:
                self._hand_over(message, raw)
        return self._failed

    def _open(self) -> None:
        if self._channel is not None and self._epoch == self.link.epoch and self._trusted:
            return
        channel = self.link.channel()
        self._channel, self._epoch, self._sent, self._trusted = channel, self.link.epoch, 0, True
        if self.link.native:
            channel.confirm_select()
            channel.events["basic_ack"].add(self._on_ack)
            channel.events["basic_nack"].add(self._on_nack)
            channel.events["basic_return"].add(self._on_return)

    def _frames(self, numbered: tuple[int, Outgoing, bytes]) -> bytes:
        """The frames of one message, which counts as published."""
        index, message, raw = numbered
        try:
            frames = self._encode(message)
        except frame_writer.CANNOT_SPELL:
            message = message.opaque(raw)
            frames = self._encode(message)
        self._places[message.properties["message_id"]] = index
        self._sent += 1
        self._waiting[self._sent] = index
        return frames

    def _encode(self, message: Outgoing) -> bytes:
        return frame_writer.publish(
            self._channel.channel_id,
            message.exchange,
            message.routing_key,
            message.mandatory,
            message.properties,
            message.body,
            self.link.native_connection.frame_max,
        )

    def _hand_over(self, message: Outgoing, raw: bytes) -> None:
        """Publish over one of kombu's emulations."""
        try:
            self._publish(message)
        except frame_writer.CANNOT_SPELL:
            self._publish(message.opaque(raw))

    def _publish(self, message: Outgoing) -> None:
        channel, given = self._channel, dict(message.properties)
        channel.basic_publish(
            channel.prepare_message(
                message.body,
                priority=given.pop("priority", 0),
                content_type=given.pop("content_type", None),
                content_encoding=given.pop("content_encoding", None) or "binary",
                headers=given.pop("application_headers", None) or {},
                properties=given,
            ),
            exchange=message.exchange,
            routing_key=message.routing_key,
        )

    def _wait(self, longest_s: float) -> None:
        """Wait until every publish is confirmed. Progress, not the size of the batch, sets the limit."""
        deadline, left = time.monotonic() + longest_s, len(self._waiting)
        while self._waiting:
            if self.link.readable(max(deadline - time.monotonic(), 0)):
                self.link.pump()
            if len(self._waiting) < left:
                deadline, left = time.monotonic() + longest_s, len(self._waiting)
            elif time.monotonic() >= deadline:
                raise self._silence(longest_s)

    def _silence(self, waited_s: float) -> Exception:
        if self.link.blocked:
            self.link.drop()
            return BrokerFull(
                f"the broker at {self.link.shown_url} accepts no messages: it is short of memory or disk"
            )
        self.link.drop()
        return BrokerDown(self.link.url, f"a publish was not confirmed within {waited_s:g} s")

    def _numbers(self, tag: int, multiple: bool) -> list[int]:
        return list(takewhile(tag.__ge__, self._waiting)) if multiple else [tag]

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for number in self._numbers(tag, multiple):
            self._waiting.pop(number, None)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        for number in self._numbers(tag, multiple):
            if self._waiting.pop(number, None) is not None:
                self._refused = True

    def _on_return(self, error: Any, exchange: str, routing_key: str, message: Any) -> None:
        index = self._places.get(message.properties.get("message_id"))
        if index is not None:
            self._failed[index] = str(getattr(error, "reply_text", "") or "no route")


def route(topology: Topology, message: Message) -> Outgoing:
    """The publish that brings a message to its destination; declares what that needs."""
    exchange, routing_key = message.exchange, message.routing_key
    queue = message.queue or (routing_key if not exchange else "")
    out = outgoing(message.raw, "" if queue else exchange, queue or routing_key, message.priority)
    if not queue:
        fanout = topology.link.options.get("fanouts", {}).get(exchange)
        if fanout is not None:
            topology.fanout(fanout)
            out.mandatory = False  # a call to all workers, of which there may be none
        elif not topology.has_exchange(exchange):
            raise Unroutable(f"there is no exchange '{exchange}'")
        # The queues of a delayed message for a foreign exchange are unknown, so it is
        # not delayed: the worker finds it early and delays it on its own queue.
        return out
    if not out.mandatory:
        return out  # a reply: its reader declares the queue
    topology.queue(queue)
    wait_s = message.due_at - time.time() if message.due_at is not None else 0.0
    if message.due_at is None or wait_s <= 0:
        return out
    out = out.due(message.due_at)
    if topology.link.native and wait_s >= 1:
        topology.delay(queue)
        out.exchange, out.routing_key = FIRST_EXCHANGE, delay_key(wait_s, queue)
        # It would apply on every level of the delay; the header `expires` still holds.
        out.properties.pop("expiration", None)
    return out
