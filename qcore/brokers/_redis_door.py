"""How to reach Redis: one server, the servers of a fail-over list, or the primary that Sentinel names.

In:  the broker's URL and options.  Out: logged-in sockets, and errors in our words.
redis-py opens the connections (TLS, AUTH, SELECT, unix sockets).
Next: brokers/_redis_link.py, which talks on them.
"""

from __future__ import annotations

import inspect
import socket
from typing import Any, NoReturn

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.retry import Retry

from qcore.brokers._redis_sentinel import SCHEME, Directory
from qcore.brokers._redis_tls import tls_keywords, tls_reason, wants_tls
from qcore.brokers.endpoints import ROUND_ROBIN, shared, split_urls
from qcore.errors import BrokerDown, BrokerError, BrokerFull, ConfigError, mask_url

ReplyError = hiredis.ReplyError

HEARTBEAT_S = 10.0
LEAST_CONNECT_S = 0.2

#: no CLIENT SETINFO, which costs two round trips and is no command before Redis 7.2
_UNNAMED: dict[str, Any] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(redis.connection.AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)
_OPTIONS = ("username", "password", "client_name", "socket_keepalive")
_UNFIT = ("READONLY", "MASTERDOWN", "LOADING")
_NOT_THERE = (*_UNFIT, "NOAUTH", "WRONGPASS", "CLUSTERDOWN", "MISCONF", "BUSY ")


class Door:
    """How to reach the broker: makes connections and words their errors.

    place is the server that is in use; a connection to any other is to be given up.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = url
        self.connect_timeout_s = _seconds(options, "connect_timeout_s", 4.0)
        self.heartbeat_s = _seconds(options, "heartbeat_s", HEARTBEAT_S)
        # A server that owes an answer for that long counts as dead.
        self.reply_timeout_s = _seconds(options, "socket_timeout", self.heartbeat_s)
        self._options = options
        self._sentinel: Directory | None = None
        urls = split_urls(url)
        if any(one.startswith(f"{SCHEME}://") for one in urls):
            if not all(one.startswith(f"{SCHEME}://") for one in urls):
                raise ConfigError(f"a list of sentinels names nothing else: {mask_url(url)}")
            self._sentinel = Directory(url, options, self.connect_timeout_s)
            self._kinds = {url: self._primary_kind()}
        else:
            self._kinds = {one: self._kind(one) for one in urls}
        strategy = str(options.get("broker_failover_strategy") or ROUND_ROBIN)
        self._endpoints = shared(url, strategy) if self._sentinel is None else None
        self._primary = ""
        self.db = int(next(iter(self._kinds.values()))[1].get("db", 0) or 0)

    # --- where

    @property
    def place(self) -> str:
        """The URL of the server in use; behind Sentinel '' before there was one."""
        return self._primary if self._endpoints is None else self._endpoints.current

    @property
    def _has_choice(self) -> bool:
        return self._endpoints is None or len(self._endpoints.urls) > 1

    def leave(self, place: str) -> None:
        """The server there is not to be used now."""
        if self._endpoints is not None and place:
            self._endpoints.failed(place)

    # --- connect

    def connect(self) -> tuple[Any, socket.socket, str]:
        """A redis-py connection, logged in; its socket; its place. Raises BrokerDown."""
        if self._endpoints is None:
            assert self._sentinel is not None
            host, port = self._sentinel.primary()
            kind, keywords = self._kinds[self.url]
            try:
                made = self._made(kind, {**keywords, "host": host, "port": port})
            except (RedisError, OSError) as exc:
                raise BrokerDown(self.url, _reason(exc)) from exc
            self._primary = f"redis://{host}:{port}/{self.db}"
            return made, made._sock, self._primary
        reasons: dict[str, None] = {}
        cause: Exception | None = None
        for place in self._endpoints.to_try():
            kind, keywords = self._kinds[place]
            try:
                made = self._made(kind, keywords)
            except (RedisError, OSError) as exc:
                self._endpoints.failed(place)
                reasons[_reason(exc)], cause = None, exc
                continue
            self._endpoints.reached(place)
            # redis-py offers no public way to the socket, nor to reading without blocking.
            return made, made._sock, place
        raise BrokerDown(self.url, "; ".join(reasons)) from cause

    def _made(self, kind: Any, keywords: dict[str, Any]) -> Any:
        made = kind(**keywords)
        try:
            made.connect()
            if self._has_choice:
                _require_primary(made)
        except BaseException:
            made.disconnect()
            raise
        return made

    # --- how

    def _kind(self, url: str) -> tuple[Any, dict[str, Any]]:
        """The class of a connection to this server and its keywords; raises ConfigError."""
        # kombu's words for a unix socket
        plain = url.replace("redis+socket://", "unix://", 1).replace("?virtual_host=", "?db=")
        try:
            pool = redis.ConnectionPool.from_url(plain, protocol=2)
        except (ValueError, RedisError) as exc:
            raise ConfigError(f"not a Redis URL: {exc}") from None
        query = dict(pool.connection_kwargs)
        return self._with_options(pool.connection_class, query, mask_url(url))

    def _primary_kind(self) -> tuple[Any, dict[str, Any]]:
        assert self._sentinel is not None
        return self._with_options(
            redis.Connection, {"protocol": 2, **self._sentinel.login}, f"sentinel '{self._sentinel.name}'"
        )

    def _with_options(self, kind: Any, keywords: dict[str, Any], where: str) -> tuple[Any, dict[str, Any]]:
        options, connect_s = self._options, self.connect_timeout_s
        if self._sentinel is None:
            connect_s = max(connect_s / len(split_urls(self.url)), LEAST_CONNECT_S)
        keywords.update(_UNNAMED)
        keywords.update(
            socket_connect_timeout=connect_s, socket_timeout=connect_s, retry=Retry(NoBackoff(), 0)
        )
        keywords.update({k: options[k] for k in _OPTIONS if k in options})
        if "path" in keywords:
            return kind, keywords
        if wants_tls(options):
            kind = redis.SSLConnection
        if issubclass(kind, redis.SSLConnection):
            keywords.update(tls_keywords(options, keywords, where))
        keywords.setdefault("socket_keepalive", True)
        keywords.setdefault("socket_keepalive_options", _kernel_probes(self.heartbeat_s))
        return kind, keywords

    # --- what went wrong

    def is_unfit(self, reply: ReplyError) -> bool:
        """Whether this answer says that the server is not a primary that can be used now."""
        text = str(reply)
        return text.startswith(_UNFIT) or " READONLY " in text

    def fail(self, error: BaseException) -> NoReturn:
        """Raise our error for one of the server's, the client's or the socket's."""
        text = str(error) or type(error).__name__
        if isinstance(error, ReplyError):
            if text.startswith("OOM") or "OOM command not allowed" in text:
                raise BrokerFull(f"Redis has no memory left: {text}") from error
            if not text.startswith(_NOT_THERE) and not any(f" {w}" in text for w in _NOT_THERE[:5]):
                raise BrokerError(f"Redis refuses: {text}") from error
        elif isinstance(error, TimeoutError):
            text = f"no answer for {self.reply_timeout_s:g} s"
        raise BrokerDown(self.url, text) from error


def _seconds(options: dict[str, Any], name: str, default: float) -> float:
    """An option that is a length of time; the default for None and 0."""
    value = options.get(name)
    try:
        seconds = float(value) if value else default
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise ConfigError(f"the transport option {name} is a number of seconds above 0, not {value!r}")
    return seconds


def _require_primary(made: Any) -> None:
    """Raise ReadOnlyError when the server is a replica. One that keeps its role secret is believed:
    it will say READONLY when it is asked to write."""
    made.send_command("ROLE")
    try:
        role = made.read_response()
    except ResponseError as exc:
        if str(exc).startswith(("LOADING", "MASTERDOWN")):
            raise
        return
    name = role[0] if isinstance(role, list) and role else b""
    if name not in (b"master", "master"):
        host = f"{getattr(made, 'host', '')}:{getattr(made, 'port', '')}"
        raise ReadOnlyError(f"{host} is a replica")


def _kernel_probes(heartbeat_s: float) -> dict[int, int]:
    """Socket options by which the kernel finds a peer that is gone, also while nobody speaks: probes
    in every half heartbeat, and the end of the connection when nothing was confirmed for two.
    A server that is only slow confirms in its kernel, so none of this ends a connection to it."""
    probe_s = max(1, int(heartbeat_s / 2))
    values = {
        "TCP_KEEPIDLE": probe_s,
        "TCP_KEEPINTVL": probe_s,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": max(1000, int(heartbeat_s * 2000)),
    }
    return {getattr(socket, name): value for name, value in values.items() if hasattr(socket, name)}


def _reason(error: Exception) -> str:
    return tls_reason(error) or str(error) or type(error).__name__
