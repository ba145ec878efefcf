"""Requests to SQS that wait for a message: each queue's in a thread of its own, so that they hold up nothing.

In:  the queues from which a worker with free slots wants a message.  Out: messages, for the next claim.
Before this: consumer.py, whose descriptor a message makes readable. What arrives for a worker that has
become full meanwhile is the first that it claims later. If it is still full after HELD_S, the queue gets
its message back, for workers with free slots, as does a queue that it leaves.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from qcore.brokers.kombu.connection import KombuConnection, WakeupSignal

log = logging.getLogger(__name__)

WAIT_S = 10  # kombu's default of wait_time_seconds
HELD_S = 5.0  # seconds for which a full worker keeps a message


class LongPolls:
    """One request at a time for each queue, on a channel of their own; made anew with each connection."""

    def __init__(self, link: KombuConnection, bell: WakeupSignal, before: LongPolls | None = None) -> None:
        """The caller holds the connection. before: those of the last connection, which end."""
        if before is not None:
            before._end()
        self._link, self._bell, self._channel = link, bell, link.channel()
        self._channel.wait_time_seconds = link.options.get("wait_time_seconds", WAIT_S)
        self._changed = threading.Condition()
        self._threads: dict[str, threading.Thread] = {}
        self._wanted: frozenset[str] = frozenset()
        self._left: set[str] = set()  # queues that the worker does not consume any more
        self._arrived: dict[str, Any] = {}
        self._failure: BaseException | None = None
        self._closed = False

    def want(self, queues: Sequence[str]) -> None:
        """Ask these queues and no others for one message each."""
        with self._changed:
            self._wanted = frozenset(queues)
            self._left -= self._wanted
            self._changed.notify_all()
            for queue in self._wanted - self._threads.keys():
                name = f"sqs {queue}"
                self._threads[queue] = threading.Thread(
                    target=self._ask, args=(queue,), name=name, daemon=True
                )
                self._threads[queue].start()

    def take(self, queues: Sequence[str], limit: int, channel: Any) -> list[tuple[str, Any]]:
        """Up to `limit` messages that have arrived, each with its queue, to be settled on `channel`. Raises
        the error with which a request ended."""
        with self._changed:
            if self._failure is not None:
                raise self._failure
            arrived = [queue for queue in queues if queue in self._arrived][:limit]
            found = [(queue, self._arrived.pop(queue)) for queue in arrived]
        for _, message in found:
            message.channel = channel
            channel.qos.append(message, message.delivery_tag)
        return found

    def leave(self, queues: Sequence[str]) -> None:
        """Ask these queues no more, and give back what has arrived or arrives from them."""
        with self._changed:
            self._wanted -= set(queues)
            self._left |= set(queues)
            returned = [self._arrived.pop(queue) for queue in queues if queue in self._arrived]
        for message in returned:
            self._give_back(message)

    def close(self) -> None:
        """End, and give back what has arrived, without waiting for the requests under way."""
        self.leave(list(self._threads))
        self._end()

    def _end(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _ask(self, queue: str) -> None:
        while True:
            with self._changed:
                held_s = HELD_S if queue in self._arrived else None
                wakes = self._changed.wait_for(lambda: self._closed or self._is_wanted(queue), held_s)
                message = self._arrived.pop(queue, None) if self._closed or not wakes else None
            if message is not None:
                self._give_back(message)
            if self._closed or self._channel.closed:
                return
            if not wakes:
                continue
            try:
                message = self._link.next_message(self._channel, queue, no_ack=True)
            except Exception as exc:
                with self._changed:
                    if self._closed:
                        log.debug("a request to the queue '%s' ended with the connection: %r", queue, exc)
                        return
                    self._failure = exc
                self._bell.ring()
                continue
            with self._changed:
                if message is None:
                    self._changed.wait_for(lambda: self._closed, self._link.poll_s)
                    continue
                is_left = self._closed or queue in self._left
                if not is_left:
                    self._arrived[queue] = message
                    self._wanted -= {queue}
            if is_left:
                self._give_back(message)
            else:
                self._bell.ring()

    def _is_wanted(self, queue: str) -> bool:
        return queue in self._wanted and queue not in self._arrived and self._failure is None

    def _give_back(self, message: Any) -> None:
        """Make a message visible to other workers, as a message that was not received."""
        info = message.delivery_info
        try:
            self._channel.sqs(
                self._channel.canonical_queue_name(info["routing_key"])
            ).change_message_visibility(
                QueueUrl=info["sqs_queue"],
                ReceiptHandle=info["sqs_message"]["ReceiptHandle"],
                VisibilityTimeout=0,
            )
        except Exception as exc:
            log.warning(
                "a message of %s comes back after its visibility time-out: %r", info["sqs_queue"], exc
            )
