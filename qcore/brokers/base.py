"""The broker contract: batch first, one place for every message, leases instead of visibility time-outs.

A message is bytes in envelope form (wire/envelope.py) and a place. At any instant it is in exactly
one of: ready, delayed, in flight (held by one owner under a lease), dead, quarantine.

    Broker      one URL.  Publish, results, broadcast, subscribe, members, revoked ids.  Thread-safe.
    Consumer    one owner of deliveries: claim, settle, wait, renew, reap.  One thread, except
                renew() and reap(), which a second thread may call at any time.
    Subscription, Inbox   receiving ends of the control and event bus, with their own connections.
    Administration, Chords, Diagnosis, FailedTaskStore, ScheduleStore, TaskLogs: its roles (contract/).

Every driver passes tests/contracts/broker_contract.py. What a driver cannot do is a field of its
`features`; the suite and qctl read it there. Errors of client libraries never leave a driver: they
become the classes of qcore/errors.py (BrokerDown above all).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import urlsplit

from qcore.brokers.contract.administration import Administration
from qcore.brokers.contract.chords import Chords
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.diagnosis import Diagnosis
from qcore.brokers.contract.failed_tasks import FailedTaskStore
from qcore.brokers.contract.queues import Binding
from qcore.brokers.contract.records import Features, Member, Message, StoredResult
from qcore.brokers.contract.result_watch import PolledWatch, ResultWatch
from qcore.brokers.contract.schedules import ScheduleStore
from qcore.brokers.contract.subscription import Inbox, Subscription
from qcore.brokers.contract.task_logs import TaskLogs
from qcore.brokers.shared.endpoints import split_urls
from qcore.errors import Unsupported
from qcore.wire import result as result_wire
from qcore.wire.result import ResultMeta
from qcore.wire.result_form import JSON, ResultForm

DEFAULT_LEASE_S = 30.0


class Broker(ABC):
    """One URL. Connects on first use; safe to use from several threads."""

    name: ClassVar[str]
    #: whether the URL may be a list of servers with `;` between them (brokers/shared/endpoints.py)
    takes_lists: ClassVar[bool] = True
    features: ClassVar[Features]

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        """options: `broker_transport_options` and those derived from the settings: `connect_timeout_s`
        (float, 4), `result_prefix` (text), `event_ttl_s`, `lease_s` (30)."""
        self.url, self.options = url, dict(options or {})
        #: how results are written and read: the option `result_form`
        self.form: ResultForm = self.options.get("result_form") or JSON
        self.lease_s = float(self.options.get("lease_s", DEFAULT_LEASE_S))

    # --- roles; a driver imports the module of a role at its first use: a worker has only what it uses
    @property
    @abstractmethod
    def administration(self) -> Administration:
        """For every driver; a cached_property."""

    @cached_property
    def failed_tasks(self) -> FailedTaskStore:
        """For drivers with features.failures."""
        return FailedTaskStore(self.name)

    @cached_property
    def task_logs(self) -> TaskLogs:
        """For drivers with features.lines."""
        return TaskLogs(self.name)

    @cached_property
    def chords(self) -> Chords:
        """For drivers with features.results."""
        return Chords(self.name)

    @cached_property
    def schedules(self) -> ScheduleStore:
        """For drivers with features.schedules. The option `schedule_outbox` of the broker: the messages go to
        another broker."""
        return ScheduleStore(self.name)

    @cached_property
    def diagnosis(self) -> Diagnosis:
        return Diagnosis(self.name)

    # --- tasks
    @abstractmethod
    def publish(self, messages: Sequence[Message]) -> None:
        """Returns when the broker has stored all of them. Raises BrokerDown, Unroutable, BrokerFull."""

    @abstractmethod
    def consumer(self, queues: Sequence[str], node: str = "") -> Consumer:
        """Open a consumer; node is the worker's name, shown to operators of the broker."""

    def bind(self, queue: str, binding: Binding) -> None:
        """Have the queue get what is sent to an exchange with this key; declares both. Raises BrokerDown, and
        Unsupported where there are no exchanges or none of that kind (features.exchanges)."""
        raise Unsupported(self.name, "bind queues to exchanges; name the queue alone")

    # --- for drivers with features.once
    def publish_once(self, message: Message, key: str, task_id: str, ttl_s: float) -> str:
        """Publish unless a call with the same key was published less than ttl_s ago; returns the id of the
        task that has the key, which is task_id when this call is the first. One atomic step, so a caller
        may try again after BrokerDown. Raises as publish()."""
        raise Unsupported(self.name, "keep idempotency keys")

    def first_time(self, key: str, ttl_s: float) -> bool:
        """Whether nobody has said this key within ttl_s of now; it counts as said from now on."""
        raise Unsupported(self.name, "remember control requests")

    def elect(self, key: str, ttl_s: float) -> bool:
        """Whether this is the first call with this key, of all workers, within ttl_s. Raises Unsupported, and
        BrokerDown, after which the election may be won."""
        return self.first_time(f"election {key}", ttl_s)

    # --- results, for drivers with features.results
    def results_of(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        """The stored result of each id, None where there is none."""
        raise Unsupported(self.name, "keep results")

    def result_ids(self, after: str = "", limit: int = 1000) -> tuple[list[str], str]:
        """Some ids of stored results, in any order, and the cursor of the next page, '' when there is none;
        results that are stored or expire meanwhile may be missed, and an id may come twice."""
        raise Unsupported(self.name, "list results")

    def store_results(self, results: Sequence[StoredResult]) -> None:
        raise Unsupported(self.name, "keep results")

    def wait_result(self, task_id: str, timeout_s: float | None) -> ResultMeta | None:
        """The meta once the task is in a ready state; None after timeout_s seconds."""
        raise Unsupported(self.name, "keep results")

    def watch_results(self) -> ResultWatch:
        """Watch many results at once: see contract/result_watch.py."""
        return PolledWatch(self.results_of)

    def forget_results(self, task_ids: Sequence[str]) -> int:
        raise Unsupported(self.name, "keep results")

    # --- bus
    @abstractmethod
    def broadcast(self, exchange: str, routing_key: str, raw: bytes) -> int | None:
        """Publish to all current subscribers; returns how many received it, None when unknown."""

    @abstractmethod
    def subscribe(self, exchange: str, pattern: str = "", node: str = "") -> Subscription:
        """Receive from the moment this returns. pattern: '' for the bare exchange (control), or an
        AMQP topic pattern such as '#', 'worker.#', 'task.#' (events). node is the name of the
        subscriber's queue where queues have names (`<node>.celery.pidbox` for control)."""

    @abstractmethod
    def inbox(self, exchange: str, key: str) -> Inbox:
        """Open a queue for replies sent to (exchange, key). Deleted within a minute if this process dies."""

    @abstractmethod
    def reply(self, exchange: str, key: str, raw: bytes) -> None:
        """Send a reply; silently dropped when that inbox does not exist."""

    # --- members
    def announce(self, node: str, info: dict[str, Any], ttl_s: float) -> dict[str, Any] | None:
        """Announce a live worker; expires after ttl_s seconds without another call. Returns the previous
        announcement under this name (by any process), where features.members_replaced is True; else None."""
        return None

    def retire(self, node: str) -> None:
        """Remove the worker's announcement."""

    def members(self) -> list[Member]:
        """Workers that announced themselves, those that expired in the last hour with alive=False;
        empty where features.members_known is False."""
        return []

    def foreign_members(self) -> list[str]:
        """Nodes of other kinds (Celery) that appear bound to the control exchange; may be stale."""
        return []

    def roster(self) -> tuple[list[Member], list[str]]:
        """members() and foreign_members(), in as few round trips as the driver can."""
        return self.members(), self.foreign_members()

    # --- saved groups, for drivers with features.results

    def save_group(self, group_id: str, results: Any, ttl_s: float | None) -> None:
        """Store the results of a group, as GroupResult.as_tuple() has them."""
        meta = result_wire.encode(group_id, result_wire.SUCCESS, results, now=time.time(), form=self.form)
        self.store_results([StoredResult(result_wire.GROUP_PREFIX + group_id, meta, ttl_s)])

    def restore_group(self, group_id: str) -> Any:
        """What was saved, or None."""
        (found,) = self.results_of([result_wire.GROUP_PREFIX + group_id])
        return None if found is None else found.result

    def delete_group(self, group_id: str) -> None:
        self.forget_results([result_wire.GROUP_PREFIX + group_id])

    # --- revoked ids
    def revoke(self, task_ids: Sequence[str], ttl_s: float = 10800.0) -> None:
        """Store that these tasks must not run; does nothing where features.revokes is False."""

    def unrevoke(self, task_ids: Sequence[str]) -> int:
        """Delete these revoked ids; returns how many were stored. For drivers with
        features.revoked_lookup."""
        raise Unsupported(self.name, "delete revoked ids")

    def revoked(self, limit: int = 50_000) -> list[str]:
        """Revoked ids, newest first."""
        return []

    def revoked_among(self, task_ids: Sequence[str]) -> set[str]:
        """The revoked ids among these; for drivers with features.revoked_lookup."""
        raise Unsupported(self.name, "look revoked ids up")

    @abstractmethod
    def check(self) -> None:
        """Connect and make one round trip; raises BrokerDown within the connect time-out."""

    @abstractmethod
    def close(self) -> None: ...

    @property
    def place(self) -> str:
        """The URL of the one server that is in use."""
        return split_urls(self.url)[0]

    @property
    def weakened(self) -> str:
        """Which guarantee of docs/guarantees.md the URL gives up, in a few words; '' for none."""
        return ""

    @property
    def keyspace(self) -> str:
        """For `qctl report`: `prefix:… slot:…` in a cluster; '' elsewhere."""
        return ""

    def info(self) -> dict[str, Any]:
        """Host, port, transport and the like of the server in use, for `inspect stats`; no secrets."""
        parts = urlsplit(self.place)
        return {
            "hostname": parts.hostname,
            "port": parts.port,
            "userid": parts.username,
            "virtual_host": parts.path.lstrip("/") or "/",
            "transport": self.name,
            "ssl": parts.scheme in ("rediss", "amqps"),
        }
