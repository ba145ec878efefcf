"""Ask Redis Sentinel for the address of the primary.

In:  `sentinel://h1:26379;sentinel://h2:26379/0` with Celery's transport options `master_name`,
`sentinel_kwargs` and `min_other_sentinels`.  Out: the primary's host and port.
User, password and database come from the first URL that has them and are the primary's, as in kombu;
those of the sentinels themselves come in `sentinel_kwargs`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from qcore.brokers.shared.endpoints import split_urls
from qcore.errors import BrokerDown, ConfigError

DEFAULT_PORT = 26379
_Sentinel: Any = Sentinel  # redis-py has no types here
SCHEME = "sentinel"


class Directory:
    """The sentinels of one URL. They are asked again for every connection, so no address becomes stale."""

    def __init__(self, url: str, options: dict[str, Any], timeout_s: float) -> None:
        self._url = url
        self.name = str(options.get("master_name") or "")
        if not self.name:
            raise ConfigError("a sentinel:// URL needs broker_transport_options={'master_name': …}")
        parts = [urlsplit(one) for one in split_urls(url)]
        self._addresses = [(p.hostname or "localhost", p.port or DEFAULT_PORT) for p in parts]
        self.login = _login(parts)
        wait_s = max(timeout_s / len(parts), 0.2)
        self._others = int(options.get("min_other_sentinels") or 0)
        self._keywords = {
            "socket_connect_timeout": wait_s,
            "socket_timeout": wait_s,
            "retry": Retry(NoBackoff(), 0),  # the next sentinel is asked instead
            **(options.get("sentinel_kwargs") or {}),
        }

    def primary(self) -> tuple[str, int]:
        """Host and port; raises BrokerDown when no sentinel has an address, ConfigError for bad options."""
        try:
            # A new client for each request: several threads ask, and a client keeps connections.
            sentinel = _Sentinel(self._addresses, self._others, sentinel_kwargs=self._keywords)
        except (TypeError, ValueError) as exc:
            raise ConfigError(f"the transport option sentinel_kwargs cannot be used: {exc}") from None
        try:
            host, port = sentinel.discover_master(self.name)
        except (RedisError, OSError) as exc:
            asked = ", ".join(f"{host}:{port}" for host, port in self._addresses)
            why = "" if isinstance(exc, MasterNotFoundError) else f" ({exc})"
            words = f"no sentinel of {asked} knows a primary called '{self.name}'{why}"
            raise BrokerDown(self._url, words) from exc
        finally:
            for client in sentinel.sentinels:
                client.close()
        return (host.decode() if isinstance(host, bytes) else str(host)), int(port)


def _login(parts: list[Any]) -> dict[str, Any]:
    """Keywords for the connection to the primary."""
    found: dict[str, Any] = {"db": 0}
    for part in parts:
        if part.password and "password" not in found:
            found["password"] = unquote(part.password)
            if part.username:
                found["username"] = unquote(part.username)
        if part.path.strip("/") and not found["db"]:
            try:
                found["db"] = int(part.path.strip("/"))
            except ValueError:
                raise ConfigError(
                    f"the database in a sentinel:// URL is a number, not '{part.path}'"
                ) from None
    return found
