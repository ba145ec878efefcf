"""Results in a cache: cache+memcached://host:port;host:port/ with pymemcache, and cache+memory://.

In:  results.  Out: Celery's keys and contents, which expire by themselves. The memory of cache+memory://
is that of one process: nothing that another process stored is found there, as in Celery.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from qcore.errors import BrokerDown, ConfigError
from qcore.results.polled import KeyedResults

#: memcached reads a longer expiry as a Unix time
LONGEST_RELATIVE_S = 30 * 86400
KEPT = 5000
CLIENT = {"default_noreply": False, "connect_timeout": 5.0, "timeout": 5.0}  # Celery's
OF_PYLIBMC = ("behaviors", "binary")
OF_RETRIES = {
    "retry_attempts": "attempts",
    "retry_delay": "retry_delay",
    "retry_for": "retry_for",
    "do_not_retry_for": "do_not_retry_for",
}

_memory: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
_lock = threading.Lock()


class MemoryCache(KeyedResults):
    """The memory of this process; the oldest of more than KEPT keys are dropped."""

    shared = False

    def read_keys(self, keys: Sequence[str]) -> list[bytes | None]:
        with _lock:
            return [self._read(key) for key in keys]

    def _read(self, key: str) -> bytes | None:
        value, until = _memory.get(key, (None, 0.0))
        if value is not None and until < time.monotonic():
            del _memory[key]
            return None
        return value

    def write_key(self, key: str, value: bytes, ttl_s: float | None) -> None:
        with _lock:
            self._write(key, value, ttl_s)

    def _write(self, key: str, value: bytes, ttl_s: float | None) -> None:
        _memory[key] = (value, math.inf if ttl_s is None else time.monotonic() + ttl_s)
        _memory.move_to_end(key)
        while len(_memory) > KEPT:
            _memory.popitem(last=False)

    def add_key(self, key: str, value: bytes, ttl_s: float | None) -> bool:
        with _lock:
            if self._read(key) is not None:
                return False
            self._write(key, value, ttl_s)
            return True

    def delete_keys(self, keys: Sequence[str]) -> int:
        with _lock:
            return sum(_memory.pop(key, None) is not None for key in keys)


class Memcached(KeyedResults):
    """Servers of memcached. Option: `cache_backend_options`, for the client."""

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(url, options)
        places = url.partition("://")[2].rstrip("/")
        self._servers = [place for place in places.split(";") if place]
        if not self._servers:
            raise ConfigError(
                f"the result backend {url} names no server; write cache+memcached://host:11211/"
            )
        self._calls, self._client = threading.Lock(), self._open()

    def _open(self) -> Any:
        try:
            from pymemcache.client.base import Client
            from pymemcache.client.hash import HashClient
            from pymemcache.client.retrying import RetryingClient
        except ImportError:
            raise ConfigError("results in memcached need the package pymemcache; install it") from None
        given = {**CLIENT, **(self.options.get("cache_backend_options") or {})}
        given = {k: v for k, v in given.items() if k not in OF_PYLIBMC}
        retries = {OF_RETRIES[k]: given.pop(k) for k in OF_RETRIES if k in given}
        one = len(self._servers) == 1
        client = Client(self._servers[0], **given) if one else HashClient(self._servers, **given)
        return RetryingClient(client, **retries) if retries.get("attempts") is not None else client

    def _call(self, name: str, *args: Any) -> Any:
        with self._calls:  # one connection, which serves one call at a time
            try:
                return getattr(self._client, name)(*args)
            except (OSError, EOFError) as exc:  # MemcacheError is no OSError: that one is a fault of the call
                self._client.close()
                raise BrokerDown(self.url, str(exc)) from exc
            except Exception as exc:
                if type(exc).__module__.startswith("pymemcache"):
                    self._client.close()
                    raise BrokerDown(self.url, repr(exc)) from exc
                raise

    def read_keys(self, keys: Sequence[str]) -> list[bytes | None]:
        found = self._call("get_many", list(keys)) if keys else {}
        return [found.get(key) for key in keys]

    def write_key(self, key: str, value: bytes, ttl_s: float | None) -> None:
        self._call("set", key, value, _expiry(ttl_s))

    def add_key(self, key: str, value: bytes, ttl_s: float | None) -> bool:
        return bool(self._call("add", key, value, _expiry(ttl_s)))

    def delete_keys(self, keys: Sequence[str]) -> int:
        return sum(bool(self._call("delete", key)) for key in keys)

    def close(self) -> None:
        with self._calls:
            self._client.close()


def _expiry(ttl_s: float | None) -> int:
    """Whole seconds as memcached reads them; 0 is never."""
    if ttl_s is None:
        return 0
    seconds = max(1, math.ceil(ttl_s))
    return seconds if seconds <= LONGEST_RELATIVE_S else int(time.time()) + seconds
