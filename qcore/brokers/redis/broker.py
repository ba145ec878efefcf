"""The Redis and Valkey broker, on Celery's own queue lists.

In:  redis://, rediss://, unix://, sentinel:// and redis+cluster:// URLs, or a list of them.  Out: the whole
contract, results included.
Queues, bindings, control and result keys are kombu's, so both kinds of workers share them. Messages
in flight are in qcore's own ledgers (brokers/redis/consumer.py), which Celery neither reads nor changes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from qcore.base.crashpoints import crashpoint
from qcore.brokers.base import Broker
from qcore.brokers.contract.administration import Administration
from qcore.brokers.contract.chords import Chords
from qcore.brokers.contract.diagnosis import Diagnosis
from qcore.brokers.contract.failed_tasks import FailedTaskStore, limits_of
from qcore.brokers.contract.queues import Binding
from qcore.brokers.contract.records import Features, Member, Message, StoredResult
from qcore.brokers.contract.result_watch import ResultWatch
from qcore.brokers.contract.schedules import ScheduleStore
from qcore.brokers.contract.subscription import Inbox, Subscription
from qcore.brokers.contract.task_logs import TaskLogs
from qcore.brokers.redis.bus import (
    RedisInbox,
    RedisSubscription,
    announce_in,
    announced_in,
    bindings,
    control_node,
    retire_from,
)
from qcore.brokers.redis.bus_scripts import REPLY, REVOKE, REVOKED, REVOKED_AMONG, UNREVOKE
from qcore.brokers.redis.connection import RedisConnection, shared_connection
from qcore.brokers.redis.consumer import RedisConsumer
from qcore.brokers.redis.delivery_scripts import DELAY, PUBLISH_ONCE
from qcore.brokers.redis.keys import Keys, glob_safe
from qcore.brokers.redis.result_waits import RedisResultWatch, ResultWaits
from qcore.brokers.redis.servers import ServerSelector
from qcore.brokers.shared.fork_hooks import tell_after_fork
from qcore.errors import BrokerDown, NotReplicated, Unroutable, Unsupported
from qcore.wire.result import ResultMeta, decode

UNREVOKED_AT_ONCE = 5000
#: messages of one command: hiredis takes seven times as long for each of a thousand
PUSHED_AT_ONCE = 100


class RedisBroker(Broker):
    """One database of one server."""

    name: ClassVar[str] = "redis"
    features: ClassVar[Features] = Features(
        results=True,
        exchanges=("direct", "topic"),
        receivers_known=True,
        members_known=True,
        members_replaced=True,
        revokes=True,
        revoked_lookup=True,
        pauses=True,
        moves=True,
        once=True,
        failures=True,
        audits=True,
        lines=True,
        schedules=True,
    )

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(url, options)
        self._door = ServerSelector(url, self.options)
        self._keys = Keys(self._door.db, self._door.key_options)
        self._failure_limits = limits_of(self.options)
        self._shared = shared_connection(self._door)
        self._renew_waits()
        self._replicas = int(self.options.get("publish_wait_replicas") or 0)
        tell_after_fork(self)

    def _renew_waits(self) -> None:
        self._waits = ResultWaits(self._door)
        self._noted: set[str] = set()  # queue names that this process has added to the set

    def after_fork(self) -> None:
        waits = self._waits
        self._shared.after_fork()
        self._renew_waits()
        waits.close()

    # --- roles

    @cached_property
    def administration(self) -> Administration:
        from qcore.brokers.redis.administration import RedisAdministration

        return RedisAdministration(self._shared, self._keys)

    @cached_property
    def chords(self) -> Chords:
        from qcore.brokers.redis.chords import RedisChords

        ordered = self.options.get("result_chord_ordered", True)
        return RedisChords(self._shared, self._keys, self._route, bool(ordered))

    @cached_property
    def diagnosis(self) -> Diagnosis:
        from qcore.brokers.redis.diagnosis import RedisDiagnosis

        return RedisDiagnosis(self._shared, self._keys, self.consumer, self._door)

    @cached_property
    def failed_tasks(self) -> FailedTaskStore:
        from qcore.brokers.redis.failed_tasks import RedisFailedTasks

        return RedisFailedTasks(self._shared, self._keys, self._failure_limits, self._published_to)

    @cached_property
    def schedules(self) -> ScheduleStore:
        from qcore.brokers.redis.schedules import RedisSchedules

        uses_outbox = bool(self.options.get("schedule_outbox"))
        return RedisSchedules(self._shared, self._keys, self._route, self._published_to, uses_outbox)

    @cached_property
    def task_logs(self) -> TaskLogs:
        from qcore.brokers.redis.task_logs import RedisTaskLogs

        return RedisTaskLogs(self._shared, self._keys)

    # --- tasks

    def publish(self, messages: Sequence[Message]) -> None:
        keys = self._keys
        crashpoint("before_publish")
        pushes: dict[str, list[bytes]] = {}
        bells: dict[str, None] = {}
        fresh: set[str] = set()
        shelved: list[Any] = []
        for message in messages:
            for queue in (message.queue,) if message.queue else self._route(message):
                if queue not in self._noted:
                    fresh.add(queue)
                name = keys.list_for(queue, message.priority) if message.priority else keys.prefix + queue
                if message.due_at is not None:
                    bell, due = keys.bell(queue), repr(message.due_at)
                    shelved += (keys.delayed(queue), bell, due, name, message.raw)
                    continue
                pushes.setdefault(name, []).append(message.raw)
                if not keys.is_base(name):
                    bells[keys.bell(queue)] = None
        commands: list[tuple[Any, ...]] = [
            ("LPUSH", name, *raws[start : start + PUSHED_AT_ONCE])
            for name, raws in pushes.items()
            for start in range(0, len(raws), PUSHED_AT_ONCE)
        ]
        commands += [("PUBLISH", bell, "1") for bell in bells]
        if fresh:
            commands.append(("SADD", keys.queues, *fresh))
        shared = self._shared
        with shared.lock:
            if commands:
                shared.link.safe_calls(commands)
            # 1,000 messages at a time, so that no script call blocks the server for long.
            for start in range(0, len(shelved), 5000):
                shared.link.run(DELAY, (keys.sequence,), shelved[start : start + 5000], safe=True)
            if self._replicas:
                self._wait_replicas()
        crashpoint("published")
        self._noted |= fresh

    def _published_to(self, queues: Sequence[str]) -> None:
        """The remaining steps of publishing when a script of its own published the messages."""
        fresh = set(queues) - self._noted
        with self._shared.lock:
            if fresh:
                self._shared.link.safe_calls([("SADD", self._keys.queues, *fresh)])
            if self._replicas:
                self._wait_replicas()
        self._noted |= fresh

    def _wait_replicas(self) -> None:
        """Wait until enough replicas have this connection's writes; raises NotReplicated, BrokerDown."""
        link = self._shared.link
        opened = link.opened
        wait_s = min(float(self.options.get("publish_wait_s") or 1.0), self._door.reply_timeout_s / 2)
        count = link.call("WAIT", self._replicas, max(1, int(wait_s * 1000)))
        # A new connection has no writes on record, so the server would report all replicas as up to date.
        have = count if link.opened == opened else 0
        if have < self._replicas:
            raise NotReplicated(have, self._replicas, wait_s)

    def _route(self, message: Message) -> list[str]:
        """The queues that receive this message; raises Unroutable."""
        if message.queue:
            return [message.queue]
        exchange, key = message.exchange, message.routing_key
        if not exchange and key:
            return [key]
        found, unrouted = set(), self.options.get("deadletter_queue")
        for routing_key, pattern, queue in bindings(self._shared, self._keys, self._keys.binding(exchange)):
            if pattern:
                unrouted = None  # kombu has no dead letters of topic exchanges
            if routing_key == key or (pattern and _matches(pattern, key)):
                found.add(queue)
        if not found and unrouted:
            return [str(unrouted)]
        if not found and key and self._exists(key):
            found.add(key)
        if not found:
            raise Unroutable(f"no queue is bound to the exchange '{exchange}' for the key '{key}'")
        return sorted(found)

    def bind(self, queue: str, binding: Binding) -> None:
        if binding.kind not in self.features.exchanges:
            raise Unsupported(self.name, f"bind a queue of tasks to an exchange of the type '{binding.kind}'")
        keys, key = self._keys, binding.routing_key
        member = keys.member(key, _topic_pattern(key) if binding.kind == "topic" else "", queue)
        for table in (keys.binding(binding.exchange), keys.permanent(binding.exchange)):
            self._shared.call("SADD", table, member)

    def _exists(self, queue: str) -> bool:
        with self._shared.lock:
            known = ("SISMEMBER", self._keys.queues, queue)
            return any(self._shared.link.safe_calls([known, ("EXISTS", *self._keys.lists(queue))]))

    def consumer(self, queues: Sequence[str], node: str = "") -> RedisConsumer:
        limits, order = self._failure_limits, self.options.get("queue_order_strategy")
        return RedisConsumer(self._door, self._keys, queues, self.lease_s, self._route, limits, node, order)

    def first_time(self, key: str, ttl_s: float) -> bool:
        ttl_ms = max(int(ttl_s * 1000), 1)
        return self._shared.call("SET", self._keys.said(key), "1", "PX", ttl_ms, "NX") is not None

    def publish_once(self, message: Message, key: str, task_id: str, ttl_s: float) -> str:
        keys, places = self._keys, list[Any]()
        due = "" if message.due_at is None else repr(message.due_at)
        queues = self._route(message)
        for queue in queues:
            name = keys.list_for(queue, message.priority)
            places += (keys.delayed(queue), keys.bell(queue), due, name, message.raw)
        crashpoint("before_publish")
        arguments = (task_id, max(1, int(ttl_s * 1000)), *places)
        owner = self._shared.run(PUBLISH_ONCE, (keys.once(key), keys.sequence), arguments)
        self._published_to(queues)
        crashpoint("published")
        return str(owner.decode())

    # --- results

    def results_of(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        if not task_ids:
            return []
        found = self._shared.call("MGET", *[self._keys.result(i) for i in task_ids])
        return [self._meta(raw, i) for raw, i in zip(found, task_ids, strict=True)]

    def result_ids(self, after: str = "", limit: int = 1000) -> tuple[list[str], str]:
        pattern, prefix = glob_safe(self._keys.result("")) + "*", len(self._keys.result("").encode())
        cursor, found = self._shared.call("SCAN", after or "0", "MATCH", pattern, "COUNT", limit)
        ids = [key[prefix:].decode("utf-8", "replace") for key in found]
        return ids, "" if cursor == b"0" else cursor.decode()

    def store_results(self, results: Sequence[StoredResult]) -> None:
        commands: list[tuple[Any, ...]] = []
        for result in results:
            key = self._keys.result(result.task_id)
            if result.ttl_s is None:
                commands.append(("SET", key, result.meta))
            else:
                commands.append(("SET", key, result.meta, "PX", max(1, int(result.ttl_s * 1000))))
            commands.append(("PUBLISH", key, result.meta))
        if commands:
            with self._shared.lock:
                self._shared.link.safe_calls(commands)

    def _meta(self, raw: bytes | None, task_id: str) -> ResultMeta | None:
        return None if raw is None else decode(raw, task_id, self.form)

    def wait_result(self, task_id: str, timeout_s: float | None) -> ResultMeta | None:
        return self._waits.wait(self._keys.result(task_id), timeout_s, lambda raw: self._meta(raw, task_id))

    def watch_results(self) -> ResultWatch:
        return RedisResultWatch(self._door, self._keys.result, self._meta)

    def forget_results(self, task_ids: Sequence[str]) -> int:
        return int(self._shared.call("DEL", *[self._keys.result(i) for i in task_ids])) if task_ids else 0

    def save_group(self, group_id: str, results: Any, ttl_s: float | None) -> None:
        expiry = () if ttl_s is None else ("PX", max(1, int(ttl_s * 1000)))
        self._shared.call("SET", self._keys.group(group_id), self.form.dumps({"result": results}), *expiry)

    def restore_group(self, group_id: str) -> Any:
        found = self._shared.call("GET", self._keys.group(group_id))
        return self.form.loads(found)["result"] if found else None

    def delete_group(self, group_id: str) -> None:
        self._shared.call("DEL", self._keys.group(group_id))

    # --- bus

    def broadcast(self, exchange: str, routing_key: str, raw: bytes) -> int:
        return int(self._shared.call("PUBLISH", self._keys.channel(exchange, routing_key), raw))

    def subscribe(self, exchange: str, pattern: str = "", node: str = "") -> Subscription:
        return RedisSubscription(self._door, self._keys, self._shared, exchange, pattern, node)

    def inbox(self, exchange: str, key: str) -> Inbox:
        expires_s = self.options.get("control_queue_expires", 10.0)
        return RedisInbox(self._door, self._keys, self._shared, exchange, key, expires_s)

    def reply(self, exchange: str, key: str, raw: bytes) -> None:
        keys = self._keys
        self._shared.run(REPLY, (keys.binding(exchange),), (exchange, key, keys.sep, keys.prefix, raw))

    # --- members

    def announce(self, node: str, info: dict[str, Any], ttl_s: float) -> dict[str, Any] | None:
        return announce_in(self._shared, (self._keys.members, self._keys.infos), node, info, ttl_s)

    def retire(self, node: str) -> None:
        retire_from(self._shared, (self._keys.members, self._keys.infos), node)

    def members(self) -> list[Member]:
        return announced_in(self._shared, (self._keys.members, self._keys.infos))

    def foreign_members(self) -> list[str]:
        return self.roster()[1]

    def roster(self) -> tuple[list[Member], list[str]]:
        control = self._keys.control
        bound = [
            control_node(q, control)
            for _, _, q in bindings(self._shared, self._keys, self._keys.binding(control))
        ]
        members = self.members()
        ours = {m.node for m in members}
        return members, sorted({node for node in bound if node and node not in ours})

    # --- revoked ids

    def revoke(self, task_ids: Sequence[str], ttl_s: float = 10800.0) -> None:
        self._shared.run(REVOKE, (self._keys.revoked,), (repr(float(ttl_s)), *task_ids))

    def unrevoke(self, task_ids: Sequence[str]) -> int:
        starts = range(0, len(task_ids), UNREVOKED_AT_ONCE)
        some = (tuple(task_ids[at : at + UNREVOKED_AT_ONCE]) for at in starts)
        return sum(int(self._shared.run(UNREVOKE, (self._keys.revoked,), ids)) for ids in some)

    def revoked(self, limit: int = 50_000) -> list[str]:
        return [i.decode() for i in self._shared.run(REVOKED, (self._keys.revoked,), (limit,))]

    def revoked_among(self, task_ids: Sequence[str]) -> set[str]:
        if not task_ids:
            return set()
        found = self._shared.run(REVOKED_AMONG, (self._keys.revoked,), tuple(task_ids))
        return {one.decode() for one in found}

    def check(self) -> None:
        link = RedisConnection(self._door)
        try:
            link.open()
            link.send_command("PING")
            if link.read_within(self._door.connect_timeout_s) is False:
                raise BrokerDown(self.url, "connected, but the server does not answer")
        finally:
            link.drop()

    @property
    def place(self) -> str:
        return self._door.place or super().place

    @property
    def keyspace(self) -> str:
        cluster = self._door.cluster
        return "" if cluster is None else f"prefix:{cluster.prefix} slot:{cluster.slot}"

    def close(self) -> None:
        self._shared.drop()
        self._waits.close()


def _matches(pattern: str, key: str) -> bool:
    """kombu stores the topic pattern as a regular expression in the binding."""
    try:
        return re.match(pattern, key) is not None
    except re.error:
        return False


def _topic_pattern(key: str) -> str:
    """A topic key as the expression that kombu keeps in a binding."""
    words = {"*": r".*?[^\.]", "#": r".*?"}
    return "^" + r"\.".join(words.get(word, word) for word in key.split(".")) + "$"
