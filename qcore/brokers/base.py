"""The broker contract: batch first, one place for every message, leases instead of time-outs.

A message is bytes in envelope form (wire/envelope.py) and a place. At any instant it is in exactly
one of: ready, delayed, in flight (held by one owner under a lease), dead, quarantine.

    Broker      one URL.  Publish, look, administer, broadcast, subscribe, results.  Thread-safe.
    Consumer    one owner of deliveries: claim, settle, wait, renew, reap.  One thread, except
                renew() and reap(), which a second thread may call at any time.
    Subscription, Inbox   open ends of the control and event bus, with connections of their own.

Every driver passes tests/contracts/broker_contract.py. What a driver cannot do is a field of its
`features`; the suite and qctl read it there. Errors of client libraries never leave a driver: they
become the classes of qcore/errors.py (BrokerDown above all).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from qcore.brokers.contract.administration import Administration, Audit, Depth
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.diagnosis import DURABLE, UNKNOWN, Promise, Symptom
from qcore.brokers.contract.failed_tasks import FailureStore
from qcore.brokers.contract.records import Features, FullChord, Member, Message, Quarantined, StoredResult
from qcore.brokers.contract.subscription import Inbox, Subscription
from qcore.brokers.contract.task_logs import Lines
from qcore.brokers.shared.endpoints import split_urls
from qcore.errors import UnknownName, Unsupported
from qcore.wire.outcome import Part
from qcore.wire.result import ResultMeta

DEFAULT_LEASE_S = 30.0


class Broker(Administration, FailureStore, Lines, Audit, ABC):
    """One URL. Connects when first needed; safe to use from several threads."""

    name: ClassVar[str]
    #: whether the URL may be a list of servers with `;` between them (brokers/shared/endpoints.py)
    takes_lists: ClassVar[bool] = True
    features: ClassVar[Features]

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        """options are `broker_transport_options` and what the settings add: `connect_timeout_s`
        (float, 4), `result_prefix` (text), `event_ttl_s`, `lease_s` (30)."""
        self.url, self.options = url, dict(options or {})
        self.lease_s = float(self.options.get("lease_s", DEFAULT_LEASE_S))

    # --- tasks
    @abstractmethod
    def publish(self, messages: Sequence[Message]) -> None:
        """Returns when the broker has all of them. Raises BrokerDown, Unroutable, BrokerFull."""

    @abstractmethod
    def consumer(self, queues: Sequence[str], node: str = "") -> Consumer:
        """Open a consumer; node is the worker's name, for people who look at the broker."""

    def bind(self, queue: str, exchange: str, kind: str, routing_key: str) -> None:
        """Have the queue get what is sent to an exchange (direct, topic or fanout) with this key; declares
        both. Raises BrokerDown, and Unsupported where there are no exchanges or none of that kind."""
        raise Unsupported(self.name, "bind queues to exchanges; name the queue alone")

    @abstractmethod
    def depth(self, queue: str) -> Depth: ...

    @abstractmethod
    def peek(self, queue: str, limit: int = 20) -> list[bytes]:
        """The next messages that would be claimed, byte for byte, altering nothing."""

    def delayed(self, queue: str, limit: int = 100) -> list[tuple[float, bytes]]:
        """The messages held until their time, nearest first: (due at, bytes). Empty where the driver
        cannot look."""
        return []

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Delete the ready and delayed messages; the number deleted."""

    @abstractmethod
    def queues(self) -> list[str]:
        """Names of queues that the broker knows of or that have been consumed, as far as it can tell."""

    @abstractmethod
    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        """What could not be a task, newest first."""

    # --- for drivers with features.once
    def publish_once(self, message: Message, key: str, task_id: str, ttl_s: float) -> str:
        """Publish unless a call with the same key was published within ttl_s of now; the id of the task
        that has the key, which is task_id when this call is the first. In one step, so a caller may
        try again after BrokerDown. Raises as publish()."""
        raise Unsupported(self.name, "keep idempotency keys")

    def first_time(self, key: str, ttl_s: float) -> bool:
        """Whether nobody has said this key within ttl_s of now; it counts as said from now on."""
        raise Unsupported(self.name, "remember control requests")

    # --- results, for drivers with features.results
    def results_of(self, task_ids: Sequence[str]) -> list[ResultMeta | None]:
        """What is stored for each id, None for nothing."""
        raise Unsupported(self.name, "keep results")

    def store_results(self, results: Sequence[StoredResult]) -> None:
        raise Unsupported(self.name, "keep results")

    def wait_result(self, task_id: str, timeout_s: float | None) -> ResultMeta | None:
        """The meta once the task is in a ready state; None after timeout_s."""
        raise Unsupported(self.name, "keep results")

    def forget_results(self, task_ids: Sequence[str]) -> int:
        raise Unsupported(self.name, "keep results")

    # --- chords, for drivers with features.results; worker/settling/chords.py says how they are used
    def chord_sizes(self, sizes: Sequence[tuple[str, int]], ttl_s: float | None) -> None:
        """New chords: (group, number of members)."""
        raise Unsupported(self.name, "count the members of a chord")

    def chord_parts(self, parts: Sequence[Part], ttl_s: float | None) -> list[FullChord | None]:
        """Count members that have ended, each once, however often it is told. For each part the
        chord that is now full, when its body may be sent for this member: whoever counts the last
        one gets it, and gets it again until chord_done()."""
        raise Unsupported(self.name, "count the members of a chord")

    def chord_done(self, full: FullChord, messages: Sequence[Message] = ()) -> bool:
        """Publish the body and forget the chord, in one step. False: it is done already."""
        raise Unsupported(self.name, "count the members of a chord")

    def chord_failed(self, group: str) -> None:
        """The body will not run: late members must not fail it again."""
        raise Unsupported(self.name, "count the members of a chord")

    # --- bus
    @abstractmethod
    def broadcast(self, exchange: str, routing_key: str, raw: bytes) -> int | None:
        """Say it to everybody who listens now; how many heard it, None when that is unknown."""

    @abstractmethod
    def subscribe(self, exchange: str, pattern: str = "", node: str = "") -> Subscription:
        """Listen from the moment this returns. pattern: '' for the bare exchange (control), or an
        AMQP topic pattern such as '#', 'worker.#', 'task.#' (events). node names the listener's
        queue where queues have names (`<node>.celery.pidbox` for control)."""

    @abstractmethod
    def inbox(self, exchange: str, key: str) -> Inbox:
        """Open a place for replies sent to (exchange, key). Gone within a minute if we die."""

    @abstractmethod
    def reply(self, exchange: str, key: str, raw: bytes) -> None:
        """Send a reply; silently dropped when nobody has that inbox."""

    # --- who is there
    def announce(self, node: str, info: dict[str, Any], ttl_s: float) -> dict[str, Any] | None:
        """Say that a worker lives; forgotten after ttl_s without another call. What was said before
        under this name (by anybody), where features.members_replaced is True; else None."""
        return None

    def retire(self, node: str) -> None:
        """The worker has left."""

    def members(self) -> list[Member]:
        """Workers that announced themselves, the expired ones of the last hour with alive=False;
        empty where features.members_known is False."""
        return []

    def foreign_members(self) -> list[str]:
        """Nodes of other kinds (Celery) that seem bound to the control exchange; may be stale."""
        return []

    def roster(self) -> tuple[list[Member], list[str]]:
        """members() and foreign_members(), in as few round trips as the driver can."""
        return self.members(), self.foreign_members()

    # --- revoked ids
    def revoke(self, task_ids: Sequence[str], ttl_s: float = 10800.0) -> None:
        """Remember that these must not run; does nothing where features.revokes is False."""

    def unrevoke(self, task_ids: Sequence[str]) -> int:
        """Forget that these must not run; how many were remembered. For drivers with
        features.revoked_lookup."""
        raise Unsupported(self.name, "forget revoked ids")

    def revoked(self, limit: int = 50_000) -> list[str]:
        """Remembered ids, newest first."""
        return []

    def revoked_among(self, task_ids: Sequence[str]) -> set[str]:
        """Which of these are remembered; for drivers with features.revoked_lookup."""
        raise Unsupported(self.name, "look revoked ids up")

    @abstractmethod
    def check(self) -> None:
        """Connect and talk once; raises BrokerDown within the connect time-out."""

    def symptoms(self) -> list[Symptom]:
        """What is wrong at the broker, as far as it can be seen there."""
        return []

    def promises(self) -> list[Promise]:
        """Which promises about publishing hold here. Raises BrokerDown."""
        return [Promise(DURABLE, UNKNOWN, f"the broker {self.name} does not say where it keeps messages")]

    def mend(self, name: str) -> int:
        """Mend the symptom of that name; how many things were mended. Raises UnknownName."""
        raise UnknownName("symptom that can be mended here", name, [])

    @abstractmethod
    def close(self) -> None: ...

    @property
    def place(self) -> str:
        """The URL of the one server that is in use."""
        return split_urls(self.url)[0]

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
