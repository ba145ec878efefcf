"""Wait for results on Redis: a thread for one, or one connection for many.

In:  task ids.  Out: their metas as soon as they are ready.
A waiting connection uses RESP3, in which subscribing and reading are one write and one answer: a result
stored before the subscription is in the key, one stored later is published on the channel.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from qcore.base.wakeup import WakePipe
from qcore.brokers.contract.result_watch import ResultWatch
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
                if not link.has_moved:
                    link.send_command("GET", key)
                    unanswered = 1
                    continue
                link.drop()
            if not link.is_open or link.is_refused(said):
                link.call("HELLO", "3")
                link.send_or_fail(pack(("SUBSCRIBE", key)) + pack(("GET", key)))
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
            if link.has_moved:
                link.drop()
                continue
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


class RedisResultWatch(ResultWatch):
    """One connection, subscribed to the channels of all results that are watched."""

    def __init__(
        self,
        door: ServerSelector,
        key_of: Callable[[str], str],
        read: Callable[[bytes, str], ResultMeta | None],
    ) -> None:
        self._door, self._key_of, self._read_meta = door, key_of, read
        self._lock, self._pipe = threading.Lock(), WakePipe()
        self._ids: dict[bytes, str] = {}  # channel -> task id
        self._news: list[tuple[str, bytes]] = []  # (command, channel) that the connection has not been told
        # Of the thread that calls arrived():
        self._link: RedisConnection | None = None
        self._asked: deque[bytes] = deque()  # keys whose GET is not answered yet
        self._look_at = 0.0  # when all keys are read again

    def add(self, task_ids: Iterable[str]) -> None:
        self._change("SUBSCRIBE", task_ids)
        self._pipe.ring()

    def remove(self, task_ids: Iterable[str]) -> None:
        self._change("UNSUBSCRIBE", task_ids)

    def _change(self, command: str, task_ids: Iterable[str]) -> None:
        with self._lock:
            for task_id in task_ids:
                channel = self._key_of(task_id).encode()
                if command == "SUBSCRIBE":
                    self._ids[channel] = task_id
                elif self._ids.pop(channel, None) is None:
                    continue
                self._news.append((command, channel))

    def arrived(self, timeout_s: float) -> list[ResultMeta]:
        until, found = time.monotonic() + timeout_s, list[ResultMeta]()
        try:
            while True:
                link = self._up_to_date()
                while (said := link.poll()) is not False:
                    if link.is_refused(said):
                        self._drop()  # the next one subscribes to everything again
                        break
                    if isinstance(said, ReplyError):
                        link.fail(said)
                    if (meta := self._meta_in(said)) is not None:
                        found.append(meta)
                now = time.monotonic()
                if found or now >= until:
                    return found
                if self._link is link:
                    self._sleep(link, min(until, self._look_at) - now)
        except BrokerDown:
            self._drop()
            if found:
                return found  # the next call reports the outage, if it lasts
            raise

    def _up_to_date(self) -> RedisConnection:
        """The connection, with what has changed written to it. A new one subscribes to everything."""
        if self._link is not None and self._link.has_moved:
            self._drop()
        link = self._link
        with self._lock:
            news, self._news = self._news, []
            if link is None or time.monotonic() >= self._look_at:
                news = [*(one for one in news if one[0] != "SUBSCRIBE")] if link is not None else []
                news += [("SUBSCRIBE", channel) for channel in self._ids]
                self._look_at = time.monotonic() + LOOK_AGAIN_S
        if link is None:
            link = RedisConnection(self._door)
            link.call("HELLO", "3")
            self._link = link
        if news:
            out = []
            for command, channel in news:
                out.append(pack((command, channel)))
                if command == "SUBSCRIBE":
                    out.append(pack(("GET", channel)))  # behind it: a result is in one of the two answers
                    self._asked.append(channel)
            link.send_or_fail(b"".join(out))
        return link

    def _meta_in(self, said: Any) -> ResultMeta | None:
        """The meta in an answer or a message, if it is one that is watched, and is ready."""
        if not isinstance(said, list):
            channel, raw = self._asked.popleft(), said
        elif said[0] == b"message":
            channel, raw = said[1], said[2]
        else:
            return None
        task_id = self._ids.get(channel)
        meta = self._read_meta(raw, task_id) if raw is not None and task_id is not None else None
        if meta is None or not meta.is_ready:
            return None
        self.remove([meta.task_id])
        return meta

    def _sleep(self, link: RedisConnection, seconds: float) -> None:
        poller = select.poll()
        for fd in (link.fileno(), self._pipe.fileno()):
            poller.register(fd, select.POLLIN)
        if any(fd == self._pipe.fileno() for fd, _ in poller.poll(max(1, int(seconds * 1000)))):
            self._pipe.drain_pipe()

    def _drop(self) -> None:
        link, self._link = self._link, None
        self._asked.clear()
        if link is not None:
            link.drop()

    def close(self) -> None:
        self._drop()
        self._pipe.close()
