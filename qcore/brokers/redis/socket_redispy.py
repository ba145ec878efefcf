"""Connections to Redis that redis-py opens: TLS, unix sockets, and URLs with options.

In:  a URL, or the address of a primary, and options.  Out: logged-in sockets, as from socket_tcp.py.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from qcore.brokers.redis.socket_tcp import CannotConnect
from qcore.brokers.redis.tls import tls_keywords, tls_reason, wants_tls
from qcore.errors import ConfigError, mask_url

#: no CLIENT SETINFO: it costs two round trips and does not exist before Redis 7.2
_UNNAMED: dict[str, Any] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(redis.connection.AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)
#: the option of a connection whose user name and password change
PROVIDER = "credential_provider"
_OPTIONS = ("username", "password", "client_name", "socket_keepalive")


class ConnectionFactory:
    """How redis-py connects to one server."""

    def __init__(self, kind: Any, keywords: dict[str, Any]) -> None:
        self.kind, self.keywords = kind, keywords
        self.db = int(keywords.get("db", 0) or 0)

    def open(self, **where: Any) -> ClientConnection:
        """Connect; `where` is the host and port, when they are not part of the factory."""
        return ClientConnection(self.kind(**{**self.keywords, **where}))


def way_to(url: str, options: dict[str, Any], connect_s: float, probes: dict[int, int]) -> ConnectionFactory:
    """The connection factory for the server of a URL; raises ConfigError."""
    # kombu's notation for a unix socket
    plain = url.replace("redis+socket://", "unix://", 1).replace("?virtual_host=", "?db=")
    try:
        pool = redis.ConnectionPool.from_url(plain, protocol=2)
    except (ValueError, RedisError) as exc:
        raise ConfigError(f"not a Redis URL: {exc}") from None
    query = dict(pool.connection_kwargs)
    return _way(pool.connection_class, query, mask_url(url), options, connect_s, probes)


def way_to_primary(
    login: dict[str, Any], name: str, options: dict[str, Any], connect_s: float, probes: dict[int, int]
) -> ConnectionFactory:
    """The connection factory for the primary that Sentinel calls `name`, at any address."""
    keywords = {"protocol": 2, **login}
    return _way(redis.Connection, keywords, f"sentinel '{name}'", options, connect_s, probes)


def _way(
    kind: Any,
    keywords: dict[str, Any],
    shown: str,
    options: dict[str, Any],
    connect_s: float,
    probes: dict[int, int],
) -> ConnectionFactory:
    keywords.update(_UNNAMED)
    keywords.update(socket_connect_timeout=connect_s, socket_timeout=connect_s, retry=Retry(NoBackoff(), 0))
    keywords.update({k: options[k] for k in _OPTIONS if k in options})
    provider = options.get(PROVIDER) or keywords.get(PROVIDER)
    if provider:
        keywords = {k: v for k, v in keywords.items() if k not in ("username", "password")}
        keywords[PROVIDER] = _provider(provider)
    if "path" in keywords:
        return ConnectionFactory(kind, keywords)
    if wants_tls(options):
        kind = redis.SSLConnection
    if issubclass(kind, redis.SSLConnection):
        keywords.update(tls_keywords(options, keywords, shown))
    keywords.setdefault("socket_keepalive", True)
    keywords.setdefault("socket_keepalive_options", probes)
    return ConnectionFactory(kind, keywords)


def _provider(given: Any) -> redis.CredentialProvider:
    """What tells user name and password at each connection: given, or named as module:Class. Raises
    ConfigError."""
    found = given
    if isinstance(given, str):
        module, _, name = given.partition(":") if ":" in given else given.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name)()
        except (ImportError, AttributeError, ValueError) as exc:
            raise ConfigError(f"the credential provider '{given}' cannot be loaded: {exc}") from exc
    if not isinstance(found, redis.CredentialProvider):
        raise ConfigError(f"{given!r} is no credential provider; derive it from redis.CredentialProvider")
    return found


class ClientConnection:
    """One connection of redis-py, as connection.py uses it."""

    def __init__(self, made: Any) -> None:
        self._made = made
        try:
            made.connect()
        except (RedisError, OSError) as exc:
            made.disconnect()
            raise CannotConnect(tls_reason(exc) or str(exc) or type(exc).__name__) from exc
        # redis-py has no public access to the socket, nor to reading without blocking.
        self.sock = made._sock

    def role(self) -> str:
        """`master` or another role; '' when the server does not reveal it. Raises CannotConnect."""
        try:
            self._made.send_command("ROLE")
            answer = self._made.read_response()
        except ResponseError as exc:
            if str(exc).startswith(("LOADING", "MASTERDOWN")):
                raise CannotConnect(str(exc)) from exc
            return ""
        except (RedisError, OSError) as exc:
            raise CannotConnect(str(exc) or type(exc).__name__) from exc
        name = answer[0] if isinstance(answer, list) and answer else b""
        return name.decode() if isinstance(name, bytes) else str(name)

    def disconnect(self) -> None:
        """Close. In a forked child this does not affect the parent's connection: redis-py compares pids."""
        self._made.disconnect()
