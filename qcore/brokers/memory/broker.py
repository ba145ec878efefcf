"""A broker inside one process, for tests and notebooks.

In:  memory://name; Broker objects with the same URL share one Place.  Out: the whole contract.
Nothing outlives the process. One lock guards a Place; every wait uses its one condition.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from qcore.brokers.base import Broker
from qcore.brokers.contract.administration import Administration
from qcore.brokers.contract.chords import Chords
from qcore.brokers.contract.diagnosis import DURABLE, NO, Diagnosis, Guarantee
from qcore.brokers.contract.failed_tasks import FailedTaskStore, limits_of
from qcore.brokers.contract.records import Features, Member, Message, StoredResult
from qcore.brokers.contract.schedules import ScheduleStore
from qcore.brokers.contract.subscription import Inbox, Subscription
from qcore.brokers.contract.task_logs import TaskLogs
from qcore.brokers.memory.bus import MemoryInbox, MemorySubscription
from qcore.brokers.memory.consumer import MemoryConsumer
from qcore.brokers.memory.state import MemoryState, members_of
from qcore.brokers.shared.topics import hears
from qcore.wire.result import ResultMeta, decode

_places: dict[str, MemoryState] = {}
_places_lock = threading.Lock()


def forget_place(url: str) -> None:
    """Drop everything under a URL; its brokers must be closed."""
    with _places_lock:
        _places.pop(url.partition("://")[2].strip("/"), None)


class MemoryBroker(Broker):
    """Queues in this process."""

    name: ClassVar[str] = "memory"
    takes_lists: ClassVar[bool] = False
    features: ClassVar[Features] = Features(
        results=True,
        receivers_known=True,
        members_known=True,
        members_replaced=True,
        revokes=True,
        revoked_lookup=True,
        multi_host=False,
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
        self._failure_limits = limits_of(self.options)
        with _places_lock:
            self._state = _places.setdefault(url.partition("://")[2].strip("/"), MemoryState())

    # --- roles

    @cached_property
    def administration(self) -> Administration:
        from qcore.brokers.memory.administration import MemoryAdministration

        return MemoryAdministration(self._state)

    @cached_property
    def chords(self) -> Chords:
        from qcore.brokers.memory.chords import MemoryChords

        return MemoryChords(self._state, self.publish)

    @cached_property
    def diagnosis(self) -> Diagnosis:
        what = "messages are in the memory of this process and end with it"
        return Diagnosis(self.name, [Guarantee(DURABLE, NO, what)])

    @cached_property
    def failed_tasks(self) -> FailedTaskStore:
        from qcore.brokers.memory.failed_tasks import MemoryFailedTasks

        return MemoryFailedTasks(self._state, self._failure_limits)

    @cached_property
    def schedules(self) -> ScheduleStore:
        from qcore.brokers.memory.schedules import MemorySchedules

        return MemorySchedules(self._state, bool(self.options.get("schedule_outbox")))

    @cached_property
    def task_logs(self) -> TaskLogs:
        from qcore.brokers.memory.task_logs import MemoryTaskLogs

        return MemoryTaskLogs(self._state)

    # --- tasks

    def publish(self, messages: Sequence[Message]) -> None:
        with self._state.changed:
            routed = [(m, self._state.route(m)) for m in messages]
            for message, queue in routed:
                self._state.put(message, queue)

    def consumer(self, queues: Sequence[str], node: str = "") -> MemoryConsumer:
        return MemoryConsumer(self._state, queues, self.lease_s, self._failure_limits, node)

    def first_time(self, key: str, ttl_s: float) -> bool:
        now = time.time()
        with self._state.changed:
            if self._state.said.get(key, 0.0) > now:
                return False
            self._state.said = {k: until for k, until in self._state.said.items() if until > now}
            self._state.said[key] = now + ttl_s
            return True

    def publish_once(self, message: Message, key: str, task_id: str, ttl_s: float) -> str:
        now = time.time()
        with self._state.changed:
            queue = self._state.route(message)
            owner, until = self._state.once.get(key, ("", 0.0))
            if until > now:
                return owner
            self._state.once = {k: v for k, v in self._state.once.items() if v[1] > now}
            self._state.once[key] = (task_id, now + ttl_s)
            self._state.put(message, queue)
            return task_id

    # --- results

    def results_of(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        with self._state.changed:
            return [self._meta(task_id) for task_id in task_ids]

    def _meta(self, task_id: str) -> ResultMeta | None:
        meta, until = self._state.results.get(task_id, (None, None))
        if until is not None and until <= time.time():
            del self._state.results[task_id]
            return None
        return None if meta is None else decode(meta, task_id, self.form)

    def store_results(self, results: Sequence[StoredResult]) -> None:
        with self._state.changed:
            for result in results:
                self._state.keep_result(result)

    def wait_result(self, task_id: str, timeout_s: float | None) -> ResultMeta | None:
        def ready() -> ResultMeta | None:
            meta = self._meta(task_id)
            return meta if meta is not None and meta.is_ready else None

        with self._state.changed:
            return self._state.changed.wait_for(ready, timeout_s)

    def forget_results(self, task_ids: Sequence[str]) -> int:
        with self._state.changed:
            return sum(self._state.results.pop(task_id, None) is not None for task_id in task_ids)

    # --- bus

    def broadcast(self, exchange: str, routing_key: str, raw: bytes) -> int:
        with self._state.changed:
            subscriptions = [
                e
                for e in self._state.subscriptions
                if e.exchange == exchange and hears(e.pattern, routing_key)
            ]
            for ear in subscriptions:
                ear.heard.append(raw)
            self._state.changed.notify_all()
            return len(subscriptions)

    def subscribe(self, exchange: str, pattern: str = "", node: str = "") -> Subscription:
        ear = MemorySubscription(self._state, exchange, pattern)
        with self._state.changed:
            self._state.subscriptions.add(ear)
        return ear

    def inbox(self, exchange: str, key: str) -> Inbox:
        box = MemoryInbox(self._state, exchange, key)
        with self._state.changed:
            self._state.inboxes.setdefault((exchange, key), []).append(box)
        return box

    def reply(self, exchange: str, key: str, raw: bytes) -> None:
        with self._state.changed:
            for box in self._state.inboxes.get((exchange, key), ())[:1]:
                box.heard.append(raw)
            self._state.changed.notify_all()

    # --- members, revoked ids

    def announce(self, node: str, info: dict[str, Any], ttl_s: float) -> dict[str, Any] | None:
        with self._state.changed:
            before = self._state.members.get(node)
            self._state.members[node] = (time.time(), ttl_s, dict(info))
            return before[2] if before else None

    def retire(self, node: str) -> None:
        with self._state.changed:
            self._state.members.pop(node, None)

    def members(self) -> list[Member]:
        with self._state.changed:
            return members_of(self._state.members)

    def revoke(self, task_ids: Sequence[str], ttl_s: float = 10800.0) -> None:
        with self._state.changed:
            for task_id in task_ids:
                self._state.revoked.pop(task_id, None)  # so that the newest is last
                self._state.revoked[task_id] = time.time() + ttl_s

    def unrevoke(self, task_ids: Sequence[str]) -> int:
        now = time.time()
        with self._state.changed:
            found = [self._state.revoked.pop(task_id, 0.0) for task_id in task_ids]
        return sum(until > now for until in found)

    def revoked(self, limit: int = 50_000) -> list[str]:
        now = time.time()
        with self._state.changed:
            self._state.revoked = {i: until for i, until in self._state.revoked.items() if until > now}
            return list(itertools.islice(reversed(self._state.revoked), limit))

    def revoked_among(self, task_ids: Sequence[str]) -> set[str]:
        now = time.time()
        with self._state.changed:
            return {i for i in task_ids if self._state.revoked.get(i, 0.0) > now}

    # --- lifecycle

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass
