"""Problems at a Redis: keys that are no longer used, messages that are never redelivered, settings that
lose data. Checks with bounded scans and reads; fixes by deleting leftovers, or by reaping.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.diagnosis import (
    CONFIRMED,
    DURABLE,
    ERROR,
    NO,
    PARTLY,
    UNKNOWN,
    WARNING,
    YES,
    Diagnosis,
    Guarantee,
    ServerFacts,
    Symptom,
)
from qcore.brokers.redis.connection import SharedConnection
from qcore.brokers.redis.keys import Keys
from qcore.brokers.redis.servers import ServerSelector
from qcore.brokers.redis.socket_tcp import CannotConnect
from qcore.errors import BrokerDown, BrokerError, UnknownName

LOOK_S = 2.0  # the longest time spent on scanning, seconds
#: Celery's default visibility time-out, seconds; a message held longer is either lost or runs again
CELERY_VISIBILITY_S = 3600.0
#: name -> the lists that this is about, as glob
LEFT_OVER = {"reply-queues": "*.reply.{control}", "event-queues": "celeryev.*"}


class RedisDiagnosis(Diagnosis):
    """Problems and guarantees of one database."""

    def __init__(
        self,
        shared: SharedConnection,
        keys: Keys,
        open_consumer: Callable[[Sequence[str]], Consumer],
        door: ServerSelector,
    ) -> None:
        """open_consumer opens one on the given queues, whose reap() mends what is stuck in flight."""
        super().__init__("redis")
        self._shared, self._keys, self._open_consumer = shared, keys, open_consumer
        self._door = door

    def symptoms(self) -> list[Symptom]:
        return [
            *self._cluster_symptoms(),
            *self._left_over(),
            *self._stuck(),
            *self._held_by_celery(),
            *self._settings(),
        ]

    def _ranges(self) -> list[Any]:
        """Who owns which slots of the cluster."""
        try:
            found: list[Any] = self._door.cluster.ranges()
        except CannotConnect as exc:
            raise BrokerDown(self._door.url, str(exc)) from exc
        return found

    def cluster(self) -> str:
        found = self._door.cluster
        if found is None:
            return ""
        ranges = self._ranges()
        mine = found.range_of(ranges)
        owners = sorted({str(one.owner) for one in ranges})
        replicas = f" (replica {', '.join(map(str, mine.replicas))})" if mine and mine.replicas else ""
        owner = f"{mine.owner}{replicas}" if mine else "no node"
        return (
            f"slot {found.slot} of the prefix {found.prefix} is at {owner}; primaries of the cluster: "
            f"{', '.join(owners)}"
        )

    def _cluster_symptoms(self) -> Iterator[Symptom]:
        found = self._door.cluster
        if found is None:
            return
        ranges = self._ranges()
        mine = found.range_of(ranges)
        if mine is not None and not mine.replicas:
            what = (
                f"{mine.owner}, which owns slot {found.slot} of the prefix {found.prefix}, has no replica: "
                "when it fails, nothing runs until it is back"
            )
            fix = f"redis-cli --cluster add-node HOST:PORT {mine.owner} --cluster-slave"
            yield Symptom("cluster-no-replica", WARNING, what, fix)
        if gaps := found.gaps(ranges):
            what = (
                f"these slots of the cluster have no owner: {gaps}; by default it then refuses all requests"
            )
            yield Symptom("cluster-uncovered", ERROR, what, f"redis-cli --cluster fix {ranges[0].owner}")

    def mend(self, name: str) -> int:
        if name in LEFT_OVER:
            found = list(self._lists(LEFT_OVER[name].format(control=self._keys.control)))
            return sum(int(self._shared.call("DEL", key)) for key in found)
        if name == "stuck-in-flight":
            consumer = self._open_consumer([])
            try:
                return consumer.reap()
            finally:
                consumer.close()
        raise UnknownName("finding that can be fixed here", name, [*LEFT_OVER, "stuck-in-flight"])

    def _left_over(self) -> Iterator[Symptom]:
        words = {
            "reply-queues": "reply queues without a reader, left by clients that died",
            "event-queues": "event queues without a reader; they grow with every event",
        }
        for name, glob in LEFT_OVER.items():
            found = list(self._lists(glob.format(control=self._keys.control)))
            size = sum(int(self._shared.call("LLEN", key)) for key in found)
            if found:
                what = f"{len(found)} {words[name]} ({size} messages)"
                yield Symptom(name, ERROR, what, f"qctl doctor --fix {name}")

    def _lists(self, glob: str) -> Iterator[bytes]:
        """Lists matching the pattern without a time to live; those in use are read or expire."""
        cursor, ends = b"0", time.monotonic() + LOOK_S
        while True:
            pattern = self._keys.prefix + glob
            cursor, keys = self._shared.call("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, "TYPE", "list")
            yield from (key for key in keys if int(self._shared.call("TTL", key)) == -1)
            if cursor in (b"0", 0) or time.monotonic() > ends:
                return

    def _stuck(self) -> Iterator[Symptom]:
        keys = self._keys
        owners = [o.decode() for o in self._shared.call("ZRANGE", keys.owners, 0, -1)]
        dead = [o for o in owners if not self._shared.call("EXISTS", keys.lease + o)]
        held = sum(int(self._shared.call("HLEN", keys.ledger + o)) for o in dead)
        if held:
            what = f"{held} messages are held by {len(dead)} dead workers, and no live worker returns them"
            yield Symptom("stuck-in-flight", ERROR, what, "qctl doctor --fix stuck-in-flight")

    def _held_by_celery(self) -> Iterator[Symptom]:
        oldest = self._shared.call("ZRANGE", f"{self._keys.prefix}unacked_index", 0, 0, "WITHSCORES")
        age_s = time.time() - float(oldest[1]) if oldest else 0.0
        if age_s > CELERY_VISIBILITY_S:
            count = int(self._shared.call("ZCARD", f"{self._keys.prefix}unacked_index"))
            what = (
                f"{count} messages are held by Celery workers, the oldest for {age_s / 3600:.1f} h: its task "
                "runs longer than their visibility timeout and so runs twice, or no worker returns it"
            )
            fix = "start a Celery worker, which returns them, or raise its visibility_timeout"
            yield Symptom("celery-unacked", WARNING, what, fix)

    def guarantees(self) -> list[Guarantee]:
        info = self._info("persistence")
        setting = "appendonly, appendfsync of the server"
        if info is None:
            what = "persistence of the server is unknown: this user may not use INFO"
            durable = Guarantee(DURABLE, UNKNOWN, what, setting)
        elif info.get("aof_enabled") == "1" and info.get("aof_last_write_status", "ok") != "ok":
            what = "the last write to the append-only file failed: a crash of the server now loses tasks"
            durable = Guarantee(DURABLE, NO, what, setting)
        elif info.get("aof_enabled") == "1":
            what = (
                "in the append-only file; with appendfsync everysec, the server's default, a crash of its "
                "host loses up to two seconds, with always nothing; which it is, INFO does not say"
            )
            durable = Guarantee(DURABLE, PARTLY, what, setting)
        else:
            what = "in memory only: a crash of the server loses messages since the last snapshot"
            durable = Guarantee(DURABLE, NO, what, setting)
        confirmed = Guarantee(CONFIRMED, YES, "publish returns when the server has confirmed the message")
        return [confirmed, durable]

    def server(self) -> ServerFacts:
        info = self._info("default")
        if info is None:
            return ServerFacts()

        def count(name: str) -> int | None:
            return int(info[name]) if info.get(name, "").isdigit() else None

        def traffic(name: str) -> int | None:
            return int(1024 * float(info[name])) if name in info else None

        if info.get("aof_enabled") == "1":
            wrote = "" if info.get("aof_last_write_status", "ok") == "ok" else ", whose last write failed"
            storage = f"append-only file{wrote}"
        else:
            unsaved = info.get("rdb_changes_since_last_save", "an unknown number of")
            storage = f"snapshots alone, {unsaved} changes since the last one"
        name = "valkey" if "valkey_version" in info else "redis"
        return ServerFacts(
            software=f"{name} {info.get(f'{name}_version', '')}".rstrip(),
            role={"master": "primary", "slave": "replica"}.get(info.get("role", ""), info.get("role", "")),
            up_s=count("uptime_in_seconds"),
            replicas=count("connected_slaves"),
            memory=count("used_memory"),
            memory_most=count("maxmemory"),
            memory_peak=count("used_memory_peak"),
            clients=count("connected_clients"),
            blocked=count("blocked_clients"),
            commands=count("total_commands_processed"),
            keys=sum(
                map(int, re.findall(r"keys=(\d+)", " ".join(v for k, v in info.items() if k[:2] == "db")))
            ),
            evicted=count("evicted_keys"),
            refused=count("rejected_connections"),
            receives=traffic("instantaneous_input_kbps"),
            sends=traffic("instantaneous_output_kbps"),
            storage=storage,
        )

    def _info(self, *parts: str) -> dict[str, str] | None:
        """The sections of the server's INFO; None when this user lacks the permission."""
        try:
            text = b"".join(self._shared.call("INFO", part) for part in parts).decode()
        except BrokerDown:
            raise
        except BrokerError:
            return None
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def _settings(self) -> Iterator[Symptom]:
        info = self._info("memory", "persistence")
        if info is None:
            return
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            what = (
                f"maxmemory-policy is {policy}: when memory runs short the server deletes queues and results"
            )
            yield Symptom("eviction", ERROR, what, "redis-cli CONFIG SET maxmemory-policy noeviction")
        if info.get("aof_enabled") == "0":
            what = "no append-only file: a crash of the server loses messages since the last snapshot"
            fix = "redis-cli CONFIG SET appendonly yes"
            yield Symptom("not-durable", WARNING, what, fix)
