"""Subscriptions and inboxes on Redis.

In:  exchanges and patterns in AMQP's terms.  Out: messages, each end with its own connection.
Channels and bindings are kombu's, so Celery's workers and monitors interoperate with ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec

from qcore.base.wakeup import WakePipe
from qcore.brokers.contract.records import Member
from qcore.brokers.contract.subscription import Inbox, Subscription
from qcore.brokers.redis.bus_scripts import ANNOUNCE, MEMBERS, OPEN_INBOX
from qcore.brokers.redis.connection import RedisConnection, SharedConnection
from qcore.brokers.redis.keys import Keys
from qcore.brokers.redis.servers import ReplyError, ServerSelector
from qcore.brokers.shared.fork_hooks import tell_after_fork
from qcore.errors import BrokerDown, BrokerError

INBOX_BLOCK_S = 20.0
LEAST_BINDING_MS = 3_600_000
MOST_AT_ONCE = 500  # replies read per round trip


class RedisSubscription(Subscription):
    """One pattern on its own connection; after BrokerDown the next get() subscribes again."""

    can_wake = True

    def __init__(
        self,
        door: ServerSelector,
        keys: Keys,
        shared: SharedConnection,
        exchange: str,
        pattern: str,
        node: str,
    ) -> None:
        self._link, self._keys, self._shared = RedisConnection(door), keys, shared
        self._pattern = keys.channel(exchange, pattern.replace("#", "*"))
        self._table = keys.binding(exchange)
        self._member = ""
        self._closed = False
        self._bell = WakePipe()
        self._looks = 0
        self._heard = self._asked = 0.0  # times of the last received data, and of the last PING
        if node and not pattern:
            # As in kombu: the binding table lists who receives commands.
            self._member = keys.member("", "", f"{node}.{exchange}")
        tell_after_fork(self)
        door.subscriptions.add(self)
        self._listen()

    def _listen(self) -> None:
        self._link.call("PSUBSCRIBE", self._pattern)
        self._heard = self._asked = time.monotonic()
        self._enter()

    def _enter(self) -> None:
        if self._member:
            self._shared.call("SADD", self._table, self._member)

    def _probe(self) -> float:
        """Send a PING when due, and check its answer; returns the seconds until the next probe.

        Nothing else is written on this connection, so without it a lost server would not be detected.
        """
        door, now = self._link.door, time.monotonic()
        if self._asked > self._heard:
            left = self._asked + door.reply_timeout_s - now
            if left <= 0:
                self._link.drop()
                door.fail(TimeoutError())
            return left
        left = self._heard + door.probe_s - now
        if left > 0:
            return left
        self._link.send_command("PING")
        self._asked, self._looks = now, self._looks + 1
        if self._looks % 3 == 1:
            self._enter()  # so that tools find this subscription again after the table was emptied
        return door.reply_timeout_s

    def get(self, timeout_s: float | None) -> bytes | None:
        until = None if timeout_s is None else time.monotonic() + timeout_s
        if self._closed:
            raise BrokerDown(self._link.door.url, "the subscription is closed")
        while True:
            if self._link.has_moved:
                self._link.drop()
            if not self._link.is_open:
                self._listen()
            said = self._link.poll()
            if said is False:
                look = self._probe()
                left = look if until is None else min(look, until - time.monotonic())
                self._link.wait(max(0.0, left), self._bell.fileno())
                said = self._link.poll()
            if said is False:
                if self._bell.drain_pipe() and not self._closed:
                    if self._link.has_moved:
                        continue
                    return None
                if self._closed:
                    raise BrokerDown(self._link.door.url, "the subscription is closed")
                if until is not None and time.monotonic() >= until:
                    return None
                continue
            self._heard = time.monotonic()
            if isinstance(said, ReplyError):
                self._link.door.fail(said)
            elif said[0] == b"pmessage":
                found: bytes = said[3]
                return found

    def wake(self) -> None:
        self._bell.ring()

    def close(self) -> None:
        self._closed = True
        self._bell.ring()
        self._link.drop()
        if self._member:
            try:
                self._shared.call("SREM", self._table, self._member)
            except BrokerError:
                pass  # a stale name in the table, which foreign_members() allows for

    def after_fork(self) -> None:
        self._link.door.subscriptions.discard(self)
        self._link.drop()


class RedisInbox(Inbox):
    """A list that replies are pushed to, found through the exchange's binding table."""

    def __init__(
        self,
        door: ServerSelector,
        keys: Keys,
        shared: SharedConnection,
        exchange: str,
        key: str,
        expires_s: float | None,
    ) -> None:
        self.key = key
        #: as in kombu, twice the time of the queue; 0: for ever
        self._bound_ms = 0 if expires_s is None else max(int(2000 * expires_s), LEAST_BINDING_MS)
        self._link, self._keys, self._shared = RedisConnection(door), keys, shared
        self._exchange, self._list = exchange, f"{keys.prefix}{key}.{exchange}"
        self._member = keys.member(key, "", f"{key}.{exchange}")
        self._seen = self._since = 0.0
        self._waiting = self._closed = False
        tell_after_fork(self)
        self._enter()

    def _enter(self) -> None:
        """Register the inbox for repliers; required before the request is sent."""
        self._shared.run(
            OPEN_INBOX,
            (self._keys.binding(self._exchange), self._keys.deadlines, self._keys.inboxes),
            (
                self._member,
                self._exchange,
                self._keys.prefix,
                self._keys.sep,
                self._bound_ms,
            ),
        )
        self._seen = time.monotonic()

    def get(self, timeout_s: float | None) -> bytes | None:
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._closed:
                raise BrokerDown(self._link.door.url, "the inbox is closed")
            if time.monotonic() - self._seen > INBOX_BLOCK_S:
                self._enter()
            left = INBOX_BLOCK_S if until is None else until - time.monotonic()
            if not self._waiting:
                if self._link.has_moved:
                    self._link.drop()
                # With no time left a plain RPOP is enough; else BRPOP waits in the server.
                if left <= 0:
                    found = self._link.call("RPOP", self._list)
                    return found if isinstance(found, bytes) else None
                self._link.send_command("BRPOP", self._list, INBOX_BLOCK_S)
                self._waiting, self._since = True, time.monotonic()
            try:
                said = self._link.read_within(max(0.0, left))
            except BrokerDown:
                self._waiting = False
                raise
            if said is False:
                if time.monotonic() - self._since > INBOX_BLOCK_S + self._link.door.reply_timeout_s:
                    self._waiting = False
                    self._link.drop()
                    self._link.door.fail(TimeoutError())
                if until is not None:
                    return None  # the BRPOP continues; the next get() reads its answer
                continue
            self._waiting = False
            if self._link.is_refused(said):
                continue
            if isinstance(said, ReplyError):
                self._link.door.fail(said)
            if said is not None:
                raw: bytes = said[1]
                return raw

    def take(self, timeout_s: float | None) -> list[bytes]:
        first = self.get(timeout_s)
        if first is None:
            return []
        # A fleet answers within milliseconds; a round trip for each reply would take longer than that.
        more = self._link.call("RPOP", self._list, MOST_AT_ONCE)
        return [first, *(more or ())]

    def close(self) -> None:
        self._closed = True
        self._link.drop()
        try:
            self._shared.call("SREM", self._keys.binding(self._exchange), self._member)
            self._shared.call("ZREM", self._keys.inboxes, self._member)
            self._shared.call("DEL", self._list)
        except BrokerError:
            pass  # deleted when the next inbox is opened

    def after_fork(self) -> None:
        self._link.drop()


def control_node(queue: str, exchange: str) -> str | None:
    """The node whose queue for this control exchange it is."""
    end = f".{exchange}"
    return queue.removesuffix(end) if queue.endswith(end) else None


def bindings(shared: SharedConnection, keys: Keys, table: str) -> Iterator[tuple[str, str, str]]:
    """The bindings in a table of kombu's: routing key, pattern, queue."""
    for member in shared.call("SMEMBERS", table):
        fields = member.decode("utf-8", "replace").split(keys.sep)
        if len(fields) == 3 and fields[2]:
            yield fields[0], fields[1], fields[2]


# --- announcements, in two keys: a sorted set of nodes by time, and a hash of what they say


def announce_in(
    shared: SharedConnection, table: tuple[str, str], node: str, info: dict[str, Any], ttl_s: float
) -> dict[str, Any] | None:
    """Announce a node; returns its previous announcement."""
    noted = msgspec.json.encode({"ttl_s": ttl_s, "info": info}, enc_hook=str)
    before = shared.run(ANNOUNCE, table, (node, noted))
    found: dict[str, Any] | None = msgspec.json.decode(before).get("info") if before else None
    return found


def retire_from(shared: SharedConnection, table: tuple[str, str], node: str) -> None:
    with shared.lock:
        shared.link.safe_calls([("ZREM", table[0], node), ("HDEL", table[1], node)])


def announced_in(shared: SharedConnection, table: tuple[str, str]) -> list[Member]:
    """Those that announced themselves, by name, without the ones that expired over an hour ago."""
    now, seen, infos = shared.run(MEMBERS, table, ())
    noted = dict(zip(infos[::2], infos[1::2], strict=True))
    found = []
    for node, score in zip(seen[::2], seen[1::2], strict=True):
        entry = msgspec.json.decode(noted.get(node, b"{}"))
        at, ttl_s = float(score), float(entry.get("ttl_s", 0))
        if float(now) < at + ttl_s + 3600:
            alive = float(now) < at + ttl_s
            found.append(Member(node.decode(), at, alive, entry.get("info", {})))
    return sorted(found, key=lambda member: member.node)
