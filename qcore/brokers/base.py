"""The broker contract: batch first, one place for every message, leases instead of time-outs.

A message is bytes in envelope form (wire/envelope.py) and a place. At any instant it is in exactly
one of: ready, delayed, in flight (held by one owner under a lease), dead, quarantine.

    Broker      one URL.  Publish, look, administer, broadcast, subscribe, results.  Thread-safe.
    Consumer    one owner of deliveries: claim, settle, wait, renew, reap.  One thread, except
                renew() and reap(), which a second thread may call at any time.
    Subscription, Inbox   open ends of the control and event bus, with connections of their own.

Every driver passes tests/suites/broker_contract.py. What a driver cannot do is a field of its
`features`; the suite and qctl read it there. Errors of client libraries never leave a driver: they
become the classes of qcore/errors.py (BrokerDown above all).
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from qcore.brokers._administration import Administration, Depth
from qcore.brokers._audit import Audit
from qcore.brokers._ears import Inbox, Subscription
from qcore.brokers._failures import FailureStore
from qcore.brokers._lines import Lines
from qcore.brokers.endpoints import split_urls
from qcore.brokers.promises import DURABLE, UNKNOWN, Promise
from qcore.brokers.symptoms import Symptom
from qcore.errors import ConfigError, Malformed, UnknownName, Unsupported, mask_url
from qcore.plugins import Registry
from qcore.wire import envelope
from qcore.wire.failure import Failure
from qcore.wire.outcome import Before, Part
from qcore.wire.result import ResultMeta

DEFAULT_LEASE_S = 30.0


class Features(msgspec.Struct, frozen=True):
    """What a driver can do."""

    results: bool = False  # keeps results itself, in the same write as the ack
    delay: bool = True  # holds delayed messages itself
    priority: bool = True
    fanout: bool = True  # broadcast and subscribe
    receivers_known: bool = False  # broadcast() can say how many heard it
    members_known: bool = False  # members() names the live workers
    members_replaced: bool = False  # announce() says what it replaced, so that two of one name find out
    foreign_known: bool = True  # foreign_members() too: a node that nobody names is not there
    peek: bool = True
    revokes: bool = False  # stores revoked ids
    revoked_lookup: bool = False  # revoked_among(), so that they need not all be read
    multi_host: bool = True
    lease: bool = True  # in-flight messages come back after lease_s; else when the connection ends
    pauses: bool = False  # keeps which queues are paused
    moves: bool = False  # moves, drops and replays single messages, each in one step
    once: bool = False  # publish_once() and first_time() know the keys of earlier calls
    failures: bool = False  # keeps failed tasks (brokers/_failures.py)
    audits: bool = False  # keeps the log of what people changed
    lines: bool = False  # keeps what tasks log (brokers/_lines.py)


class Message(msgspec.Struct, frozen=True):
    """A message to publish.

    Either `queue` is named (the default exchange), or exchange and routing_key are, and the broker
    finds the bound queues. due_at (epoch seconds) delays it inside the broker. priority goes from 0,
    which is served first, to 9, as with Celery on Redis; of every 16 messages that a consumer takes one
    is not the most urgent but what waited longest, so that no priority waits for ever.
    """

    raw: bytes
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    priority: int = 0
    due_at: float | None = None


def sent_again(message: Message) -> Message:
    """The same message, marked as one that may have been sent before: whoever gets it looks whether
    it is done. What is no envelope stays as it is."""
    try:
        found = envelope.decode(message.raw)
    except Malformed:
        return message
    found.headers = {**found.headers, "redelivered": True}
    return msgspec.structs.replace(message, raw=envelope.encode(found))


class Delivery(msgspec.Struct):
    """A message held by a consumer; it must be settled."""

    number: int  # chosen by the consumer, grows, unique in its life
    queue: str
    raw: bytes
    redelivered: bool = False  # somebody may have started it before
    deliveries: int = 1  # this is the n-th time it is handed out after a crash, as far as known
    handle: Any = None  # the driver's own


class Settle(enum.IntEnum):
    """What becomes of a delivery."""

    ACK = 0  # done with: gone
    REQUEUE = 1  # not started: back to the head of its queue, not counted as a redelivery
    RETURN = 2  # started or unknown: back to the head, flagged redelivered
    DELAY = 3  # held by the broker until due_at
    QUARANTINE = 4  # kept byte for byte with a reason, out of the way


class StoredResult(msgspec.Struct, frozen=True):
    """One result to store: meta is JSON bytes of wire/result.py."""

    task_id: str
    meta: bytes
    ttl_s: float | None = 86400.0  # None: for ever


class FullChord(msgspec.Struct):
    """A chord whose members have all ended, as far as the one who counted the last was told.

    token is the right to send its body: chord_done() checks it.
    """

    group: str
    token: str
    entries: list[bytes]  # one for each member, in their order: JSON [1, id, state, result]
    shape: bytes | None = None  # the saved GroupResult, when a client of Celery's nested groups


class Settlement(msgspec.Struct):
    """One delivery's end: all of it happens in one atomic step where the driver can.

    Order where it cannot: result, sends, then the delivery itself. Fenced: when the delivery is no
    longer ours (lease lost, channel closed), nothing of it happens.
    """

    delivery: Delivery
    action: Settle = Settle.ACK
    result: StoredResult | None = None  # only for drivers with features.results
    sends: tuple[Message, ...] = ()  # continuations, retries
    due_at: float = 0.0  # for DELAY
    reason: str = ""  # for QUARANTINE: a stable code
    failure: Failure | None = None  # only for drivers with features.failures
    before: Before | None = None  # for the worker, which sees to it first; drivers ignore it
    report: Callable[[], None] | None = None  # for the worker, once this was accepted; drivers ignore it


class Quarantined(msgspec.Struct, frozen=True):
    """A message that is not a task, kept with the reason."""

    id: str
    queue: str
    reason: str
    at: float  # epoch seconds
    raw: bytes


class Member(msgspec.Struct, frozen=True):
    """A worker that has announced itself; seen_at is the broker's clock."""

    node: str
    seen_at: float
    alive: bool  # its announcement has not expired
    info: dict[str, Any]  # pid, host, version, queues, epoch


class Consumer(ABC):
    """One owner of deliveries on the queues it was opened for.

    The loop of its user:  arm(); select on fds() for at most idle_s(); wake(fd) for each ready one,
    which may bring a delivery; else claim(); … settle().  arm() when there is room and nothing was
    claimable; disarm() when full.
    """

    queues: tuple[str, ...]
    #: how long outcomes of short tasks may wait for each other while all slots are busy (seconds), where
    #: settling is not answered and so would never come in batches
    gather_s: float = 0.0
    #: how many owners the last reap() found, itself among them; 1 where looking at them costs nothing
    owners: int = 1
    #: in how many seconds reap() can find something, as the last renew() or reap() saw it; None: nobody
    #: knows. Leases that others took since then end later, if they are not shorter than ours
    reap_in_s: float | None = None

    @abstractmethod
    def claim(self, limit: int) -> list[Delivery]:
        """Take up to `limit` messages, without waiting. Due delayed messages first become ready.
        Never decodes: any bytes are handed out. Raises BrokerDown."""

    @abstractmethod
    def settle(self, settlements: Sequence[Settlement]) -> list[int]:
        """End deliveries in one round trip; returns the numbers that were refused because they are
        not ours any more. Idempotent: settling twice refuses the second. Raises BrokerDown, after
        which the whole batch may be tried again."""

    def turn(self, settlements: Sequence[Settlement], limit: int) -> tuple[list[int], list[Delivery]]:
        """settle() and then claim(), in one round trip where the driver can: what was refused, what
        was claimed. After BrokerDown both may be tried again."""
        return self.settle(settlements), self.claim(limit)

    @abstractmethod
    def set_queues(self, queues: Sequence[str]) -> None:
        """Consume from these from now on, in this order of preference. Declares them."""

    def fds(self) -> list[int]:
        """File descriptors that become readable when claim() may have something."""
        return []

    def arm(self) -> None:
        """Ask to be woken. Costs nothing when already armed."""

    def disarm(self) -> None:
        """Do not take anything by waking; what a wake-up already took is given back or held."""

    def wake(self, fd: int) -> Sequence[Delivery]:
        """A descriptor of fds() is readable. What this already brought, for a consumer that held
        nothing; when it brings nothing, claim() may have something."""
        return ()

    def idle_s(self) -> float:
        """The longest time until claim() should be tried again although nothing woke us:
        the nearest due delayed message, or the driver's safety net. Seconds."""
        return 1.0

    def prefetch(self, count: int) -> None:
        """At most `count` deliveries will be held at once (a hint; AMQP needs it)."""

    @abstractmethod
    def renew(self) -> bool:
        """Extend the lease of everything held. False: the lease was lost, and with it every
        delivery held until now (claim and settle go on under a new lease). Any thread."""

    @abstractmethod
    def reap(self) -> int:
        """Return what dead owners held to its queues, flagged redelivered and counted. The number
        of messages returned. Any thread; any number of processes at once."""

    @abstractmethod
    def reconnect(self) -> None:
        """After BrokerDown: connect again. Deliveries stay ours where the driver has leases;
        elsewhere later settlements of older deliveries are refused. Raises BrokerDown."""

    @abstractmethod
    def close(self) -> None:
        """Give everything held but unsettled back (not flagged) and stop."""


class Broker(Administration, FailureStore, Lines, Audit, ABC):
    """One URL. Connects when first needed; safe to use from several threads."""

    name: ClassVar[str]
    #: whether the URL may be a list of servers with `;` between them (brokers/endpoints.py)
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

    # --- chords, for drivers with features.results; worker/chords.py says how they are used
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


brokers: Registry[type[Broker]] = Registry(
    "broker",
    "qcore.brokers",
    "qcore.brokers",
    ("kombu", "memory", "redis", "sqlite"),
    aliases={
        "rediss": "redis",
        "redis+socket": "redis",
        "unix": "redis",
        "sentinel": "redis",
        "amqp": "kombu",
        "amqps": "kombu",
        "pyamqp": "kombu",
    },
)


def open_broker(url: str, options: dict[str, Any] | None = None) -> Broker:
    """The broker at `url`, or at one of several URLs with `;` between them; the scheme chooses the
    driver, schemes of other kombu transports go to the kombu driver. Raises ConfigError for a URL that
    is none."""
    urls = split_urls(url) or [""]
    scheme = urls[0].partition("://")[0] if "://" in url else ""
    if not scheme:
        raise ConfigError(
            f"'{mask_url(url)}' is not a broker URL; write sqlite:///path, redis://host/0 or amqp://host//"
        )
    try:
        for one in urls:
            _ = urlsplit(one).port
    except ValueError:  # its words quote the URL, and so the password
        hint = "; in a password write '/' as %2F, '#' as %23, '?' as %3F and '@' as %40" if "@" in url else ""
        raise ConfigError(f"the broker URL {mask_url(url)} has a bad port or host{hint}") from None
    kinds = {_driver(one) for one in urls}
    if len(kinds) > 1:
        raise ConfigError(
            f"one broker URL names servers of one kind, not {' and '.join(sorted(kinds))}: {mask_url(url)}"
        )
    driver = brokers.get(kinds.pop())
    if len(urls) > 1 and not driver.takes_lists:
        raise ConfigError(f"the {driver.name} broker takes one URL, not {len(urls)}: {mask_url(url)}")
    return driver(";".join(urls), options)


def _driver(url: str) -> str:
    """The name of the driver for a single URL."""
    scheme = url.partition("://")[0]
    name = brokers.aliases.get(scheme, scheme)
    return name if name in brokers else "kombu"
