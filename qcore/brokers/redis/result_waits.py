"""Wait for results on Redis.

In:  a task id.  Out: its meta as soon as it is ready.
A waiting connection uses RESP3, in which subscribing and reading are one write and one answer: a result
stored before the subscription is in the key, one stored later is published on the channel.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from qcore.brokers.redis.connection import RedisConnection, pack
from qcore.brokers.redis.servers import ReplyError, ServerSelector
from qcore.errors import BrokerDown
from qcore.wire.result import ResultMeta

#: fallback poll interval in seconds, in case a message was lost
LOOK_AGAIN_S = 5.0
MOST_IDLE = 4

Read = Callable[[bytes], ResultMeta | None]


class ResultWaits:
    """The connections of one broker on which threads wait for results."""

    def __init__(self, door: ServerSelector) -> None:
        self._door, self._lock = door, threading.Lock()
        self._idle: list[
            tuple[RedisConnection, str]
        ] = []  # with the channel that each is still subscribed to

    def wait(self, key: str, timeout_s: float | None, read: Read) -> ResultMeta | None:
        """The meta under `key`, which is also its channel, once `read` finds it ready; None after
        timeout_s seconds. Raises BrokerDown."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        link, before = self._take()
        try:
            # The last channel is unsubscribed only now: that needs no round trip of its own.
            leave = pack(("UNSUBSCRIBE", before)) if before else b""
            link.send_or_fail(leave + pack(("SUBSCRIBE", key)) + pack(("GET", key)))
            found = self._listen(link, key, until, read)
        except BaseException:
            link.drop()
            raise
        with self._lock:
            self._idle.append((link, key))
            spare = self._idle.pop(0)[0] if len(self._idle) > MOST_IDLE else None
        if spare is not None:
            spare.drop()
        return found

    def _listen(self, link: RedisConnection, key: str, until: float | None, read: Read) -> ResultMeta | None:
        channel, unanswered = key.encode(), 1
        while True:
            left = LOOK_AGAIN_S if until is None else min(LOOK_AGAIN_S, until - time.monotonic())
            # The first read always waits for its answer: with a time-out of 0 it returns the present state.
            said: Any = link.read() if unanswered else link.read_within(left) if left > 0 else False
            if said is False:
                if until is not None and time.monotonic() >= until:
                    return None
                link.send_command("GET", key)
                unanswered = 1
                continue
            if isinstance(said, ReplyError):
                link.fail(said)
            raw = None
            if not isinstance(said, list):
                raw, unanswered = said, 0
            elif said[0] == b"message" and said[1] == channel:
                raw = said[2]
            if raw is not None:
                meta = read(raw)
                if meta is not None and meta.is_ready:
                    if unanswered:
                        link.read()
                    return meta

    def _take(self) -> tuple[RedisConnection, str]:
        while True:
            with self._lock:
                if not self._idle:
                    break
                link, before = self._idle.pop()
            try:
                while link.poll() is not False:
                    pass  # late messages of the last channel
                return link, before
            except BrokerDown:
                continue
        link = RedisConnection(self._door)
        link.call("HELLO", "3")
        return link, ""

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for link, _ in idle:
            link.drop()
