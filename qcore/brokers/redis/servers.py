"""How to connect to Redis: one server, a fail-over list of servers, the primary that Sentinel names, or the
owner of the fleet's slot in a cluster.

In:  the broker's URL and options.  Out: logged-in sockets, and errors of qcore/errors.py.
socket_tcp.py opens ordinary connections, redis-py (socket_redispy.py) all others.
Next: brokers/redis/connection.py, which sends commands on them.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn, Protocol
from weakref import WeakSet

import hiredis

from qcore.brokers.redis.socket_tcp import CannotConnect, PlainConnection, read_plain
from qcore.brokers.shared.endpoints import CLUSTER, ROUND_ROBIN, shared, split_urls
from qcore.errors import BrokerDown, BrokerError, BrokerFull, ConfigError, mask_url

ReplyError = hiredis.ReplyError

HEARTBEAT_S = 10.0
CHECKED = "health_check_interval"  # the option of kombu
CHECK_S = 25.0  # as in kombu
QUIET = 0.6  # after this part of a heartbeat without an answer, a waiting connection sends a probe
LEAST_CONNECT_S = 0.2
SENTINEL = "sentinel"

_UNFIT = ("READONLY", "MASTERDOWN", "LOADING")
_NOT_THERE = (*_UNFIT, "NOAUTH", "WRONGPASS", "CLUSTERDOWN", "MISCONF", "BUSY ")


class Connection(Protocol):
    """A logged-in connection."""

    sock: socket.socket

    def role(self) -> str: ...
    def disconnect(self) -> None: ...


class ServerSelector:
    """Selects the broker's server, opens connections and translates their errors.

    place is the server that is in use; a connection to any other server must be closed.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = url
        self.connect_timeout_s = _seconds(options, "connect_timeout_s", 4.0)
        self.connect_timeout_s = _seconds(options, "socket_connect_timeout", self.connect_timeout_s)
        self.heartbeat_s = _seconds(options, "heartbeat_s", HEARTBEAT_S)
        # A server that does not answer for this long counts as dead.
        self.reply_timeout_s = _seconds(options, "socket_timeout", self.heartbeat_s)
        # A connection that was idle for so long is checked by a PING before its next request; 0: none is.
        checked_s = _seconds(options, CHECKED, CHECK_S) if options.get(CHECKED) != 0 else 0.0
        self.idle_check_s = float(options.get("idle_check_s") or checked_s)
        # A connection that waits sends one after so long without an answer; infinite: it sends none.
        self.probe_s = self.heartbeat_s * QUIET
        if options.get(CHECKED) is not None:
            self.probe_s = checked_s or math.inf
        self._options = options
        self._sentinel: Any = None
        self.cluster: Any = None  # in a cluster: topology/cluster.py
        #: woken when a cluster has another owner of the slot: PUBLISH counts only those who listen there
        self.subscriptions: WeakSet[Any] = WeakSet()
        #: the options from which the names of keys are made
        self.key_options = options
        #: keys that every script names in addition, so that a node refuses it while the slot is being moved
        self.guards: tuple[str, ...] = ()
        urls = split_urls(url)
        self.db = 0
        self._ways: dict[str, Callable[..., Connection]] = {}
        if any(CLUSTER in one for one in urls):
            self._follow_slot(len(urls))
        elif any(one.startswith(f"{SENTINEL}://") for one in urls):
            if not all(one.startswith(f"{SENTINEL}://") for one in urls):
                raise ConfigError(f"a list of sentinels contains only sentinel URLs: {mask_url(url)}")
            self._ways[url] = self._way_to_primary()
        else:
            for one in reversed(urls):  # the database of the first URL applies
                self._ways[one] = self._way(one, len(urls))
        strategy = str(options.get("broker_failover_strategy") or ROUND_ROBIN)
        single = self._sentinel is None and self.cluster is None
        self._endpoints = shared(url, strategy) if single else None
        self._primary = ""

    # --- address

    @property
    def place(self) -> str:
        """The URL of the server in use; with Sentinel or a cluster '' until the first connection."""
        return self._primary if self._endpoints is None else self._endpoints.current

    @property
    def _has_choice(self) -> bool:
        return self._endpoints is None or len(self._endpoints.urls) > 1

    def leave(self, place: str) -> None:
        """Mark the server at `place` as unusable for now."""
        if self._endpoints is not None and place:
            self._endpoints.failed(place)

    # --- connect

    def connect(self) -> tuple[Connection, str]:
        """Open a connection and log in; returns it and its place. Raises BrokerDown."""
        if self.cluster is not None:
            try:
                made, node = self.cluster.connect()
            except CannotConnect as exc:
                raise BrokerDown(self.url, str(exc)) from exc
            place = f"{self.cluster.scheme}://{node}/{self.db}"
            before, self._primary = self._primary, place
            for subscription in list(self.subscriptions) if before not in ("", place) else ():
                subscription.wake()
            return made, place
        if self._endpoints is None:
            host, port = self._sentinel.primary()
            try:
                made = self._made(self._ways[self.url], host=host, port=port)
            except CannotConnect as exc:
                raise BrokerDown(self.url, str(exc)) from exc
            self._primary = f"redis://{host}:{port}/{self.db}"
            return made, self._primary
        reasons: dict[str, None] = {}
        cause: Exception | None = None
        for place in self._endpoints.to_try():
            try:
                made = self._made(self._ways[place])
            except CannotConnect as exc:
                self._endpoints.failed(place)
                reasons[str(exc)], cause = None, exc
                continue
            self._endpoints.reached(place)
            return made, place
        raise BrokerDown(self.url, "; ".join(reasons)) from cause

    def _made(self, way: Callable[..., Connection], **where: Any) -> Connection:
        made = way(**where)
        try:
            # A server that hides its role counts as a primary: as a replica it answers READONLY to a write.
            if self._has_choice and made.role() not in ("master", ""):
                raise CannotConnect("it is a replica")
        except BaseException:
            made.disconnect()
            raise
        return made

    # --- connection factories

    def _way(self, url: str, of: int) -> Callable[..., Connection]:
        """The connection factory of one server among `of`; raises ConfigError."""
        options, probes = self._options, _kernel_probes(self.heartbeat_s)
        connect_s = max(self.connect_timeout_s / of, LEAST_CONNECT_S)
        needs_client = options.get("broker_use_ssl") or options.get("credential_provider")
        login = None if needs_client else read_plain(url, options)
        if login is not None:
            self.db = login.db
            return lambda: PlainConnection(login, connect_s, probes)
        from qcore.brokers.redis.socket_redispy import way_to

        way = way_to(url, options, connect_s, probes)
        self.db = way.db
        return way.open

    def _way_to_primary(self) -> Callable[..., Connection]:
        from qcore.brokers.redis.socket_redispy import way_to_primary
        from qcore.brokers.redis.topology.sentinel import Directory

        self._sentinel = found = Directory(self.url, self._options, self.connect_timeout_s)
        probes = _kernel_probes(self.heartbeat_s)
        way = way_to_primary(found.login, found.name, self._options, self.connect_timeout_s, probes)
        self.db = way.db
        return way.open

    def _follow_slot(self, of: int) -> None:
        from qcore.brokers.redis.topology.cluster import Cluster, key_options

        def open_node(url: str) -> Connection:
            if url not in self._ways:
                self._ways[url] = self._way(url, of)
            return self._ways[url]()

        self.key_options = key_options(self._options)
        self.cluster = found = Cluster(self.url, self.key_options["global_keyprefix"], open_node)
        self.guards = found.guards
        self._way(found.url_of(found.seeds[0]), of)  # a bad URL is an error now, and not at the first use

    # --- refusals of a cluster's nodes

    def refuses(self, reply: object) -> bool:
        """Whether a node of a cluster has not executed the request because of where the slot is."""
        return self.cluster is not None and bool(self.cluster.refuses(reply))

    def look_again(self, reply: ReplyError, tries: int, until: float) -> None:
        """After a refusal: return when a repeat makes sense. tries: how often this request was refused
        before. Raises BrokerDown after `until`, by time.monotonic()."""
        known = self.cluster.learn(reply)
        if time.monotonic() >= until:
            self.fail(reply)
        if not known or tries:
            time.sleep(min(0.02 * 2.0 ** min(tries, 4), 0.25))

    def _uncovered(self, text: str) -> str:
        """Why a cluster is down, as far as its nodes know."""
        try:
            gaps = self.cluster.gaps(self.cluster.ranges()) if text.startswith("CLUSTERDOWN") else ""
        except CannotConnect as exc:
            return f" ({exc})"
        return f" (slots without an owner: {gaps})" if gaps else ""

    # --- errors

    def is_unfit(self, reply: ReplyError) -> bool:
        """Whether this error means that the server is not a usable primary now."""
        text = str(reply)
        return text.startswith(_UNFIT) or " READONLY " in text

    def fail(self, error: BaseException) -> NoReturn:
        """Raise the qcore error for an error of the server, the client library or the socket."""
        text = str(error) or type(error).__name__
        if isinstance(error, ReplyError):
            if text.startswith("OOM") or "OOM command not allowed" in text:
                raise BrokerFull(f"Redis has no memory left: {text}") from error
            if self.cluster is not None and self.cluster.refuses(error):
                what = "is being moved" if text.startswith(("ASK ", "TRYAGAIN")) else "is not served now"
                why = f"slot {self.cluster.slot} of the prefix {self.cluster.prefix} {what}: {text}"
                raise BrokerDown(self.url, why + self._uncovered(text)) from error
            if text.startswith("CROSSSLOT") or "do not hash to the same slot" in text:
                raise ConfigError(
                    "this Redis is in cluster mode, where all keys of a fleet must be in one slot: write "
                    "redis+cluster:// in the URL, or set "
                    "broker_transport_options={'global_keyprefix': '{name}'} in the app, with the braces"
                ) from error
            if text.startswith("MOVED "):
                where = text.split()[-1]
                raise ConfigError(
                    f"this node of a Redis cluster does not hold the fleet's keys: use redis://{where}/0 as "
                    f"broker_url, or redis+cluster://{where}/0, which follows the keys"
                ) from error
            if not text.startswith(_NOT_THERE) and not any(f" {w}" in text for w in _NOT_THERE[:5]):
                raise BrokerError(f"Redis refuses: {text}") from error
        elif isinstance(error, TimeoutError):
            text = f"no answer for {self.reply_timeout_s:g} s"
        raise BrokerDown(self.url, text) from error


def _seconds(options: dict[str, Any], name: str, default: float) -> float:
    """A duration option in seconds; the default for None and 0."""
    value = options.get(name)
    try:
        seconds = float(value) if value else default
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise ConfigError(f"the transport option {name} is a number of seconds above 0, not {value!r}")
    return seconds


def _kernel_probes(heartbeat_s: float) -> dict[int, int]:
    """Socket options by which the kernel detects an unreachable peer, also on an idle connection: a probe
    every half heartbeat, and the connection ends when two heartbeats pass without a confirmation.
    The kernel of a slow server still confirms, so these options do not end a connection to it."""
    probe_s = max(1, int(heartbeat_s / 2))
    values = {
        "TCP_KEEPIDLE": probe_s,
        "TCP_KEEPINTVL": probe_s,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": max(1000, int(heartbeat_s * 2000)),
    }
    return {getattr(socket, name): value for name, value in values.items() if hasattr(socket, name)}
