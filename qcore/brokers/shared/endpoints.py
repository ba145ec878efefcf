"""The servers of one broker URL: which one is in use, and which to try next when it fails.

In:  `redis://a/0;redis://b/0`, or a list of such URLs.  Out: the order in which to try them.
Nothing here connects: a driver calls `to_try()`, connects, and calls `reached()` or `failed()`. All
connections of one process with the same list, and those of the processes it forks, share one Endpoints
(`shared()`), so that tasks, what they send, control and events always use the same server.
Next: brokers/redis/servers.py; any driver that takes a list of servers.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from qcore.base.lazy_pattern import lazily
from qcore.errors import ConfigError

if TYPE_CHECKING:
    from mmap import mmap

BACKOFF_LEAST_S, BACKOFF_MOST_S = 0.1, 1.0
ROUND_ROBIN, SHUFFLE = "round-robin", "shuffle"

# Only before a scheme: a file name or a password may hold a semicolon.
_BETWEEN = lazily(r"\s*;\s*(?=[a-z][a-z0-9+.-]*://|$)", re.I)

#: in the URLs of the nodes of a Redis cluster
CLUSTER = "+cluster://"


def split_urls(url: str | Iterable[str]) -> list[str]:
    """The single URLs of a text with `;` between them, or of a list of such texts. The hosts of a cluster may
    have commas between them."""
    texts = [url] if isinstance(url, str) else list(url)
    parts = [part.strip() for text in texts for part in _BETWEEN.split(str(text)) if part.strip()]
    return [one for part in parts for one in (_nodes(part) if CLUSTER in part else [part])]


def _nodes(url: str) -> list[str]:
    """`redis+cluster://user@a,b:7000/0` as one URL for each host."""
    head, _, rest = url.partition("://")
    tail = re.sub(r"^[^/?#]*", "", rest)
    login, at, hosts = rest.removesuffix(tail).rpartition("@")
    return [f"{head}://{login}{at}{host.strip()}{tail}" for host in hosts.split(",")]


def join_urls(urls: str | Iterable[str]) -> str:
    """The URLs as one text with `;` between them."""
    return ";".join(split_urls(urls))


class Endpoints:
    """One list of at most 255 servers. `current` is the one that was reached last.

    strategy is Celery's `broker_failover_strategy`: round-robin keeps the order of the list, shuffle
    uses a separate random order for each process. A server that failed is skipped for 0.1 s, doubling
    to 1 s, while there is another one. Used from several threads without a lock: each step is one
    assignment, and the worst case of a race is one extra attempt.
    """

    def __init__(
        self,
        urls: Sequence[str],
        strategy: str = ROUND_ROBIN,
        *,
        clock: Callable[[], float] = time.monotonic,
        shuffle: Callable[[list[str]], None] = random.shuffle,
    ) -> None:
        if strategy not in (ROUND_ROBIN, SHUFFLE):
            raise ConfigError(
                f"the setting broker_failover_strategy takes '{ROUND_ROBIN}' or '{SHUFFLE}', not '{strategy}'"
            )
        if not urls:
            raise ConfigError("the broker URL is empty; write redis://host/0 or amqp://host//")
        self.urls = list(urls)
        if strategy == SHUFFLE:
            shuffle(self.urls)
        self._at: mmap | bytearray = bytearray(1)
        if len(self.urls) > 1:
            from mmap import mmap

            # Shared with forked processes: a task must publish to the server that its worker uses.
            self._at = mmap(-1, 1)
        self._clock = clock
        self._failures = dict.fromkeys(self.urls, 0)
        self._due = dict.fromkeys(self.urls, 0.0)

    @property
    def current(self) -> str:
        return self.urls[self._at[0]]

    def to_try(self) -> list[str]:
        """The servers to try now, in order: the current one, then those after it in the list.
        Servers that failed a moment ago are left out, but at least one is returned."""
        at = self._at[0]
        ring = self.urls[at:] + self.urls[:at]
        now = self._clock()
        due = [url for url in ring if self._due[url] <= now]
        return due or [min(ring, key=self._due.__getitem__)]

    def reached(self, url: str) -> None:
        """Record that the server answers and has the expected role."""
        self._failures[url], self._due[url] = 0, 0.0
        self._at[0] = self.urls.index(url)

    def failed(self, url: str) -> None:
        """Record that the server cannot be used now."""
        count = self._failures[url] = self._failures[url] + 1
        wait_s = BACKOFF_LEAST_S * 2.0 ** min(count - 1, 10)
        self._due[url] = self._clock() + min(wait_s, BACKOFF_MOST_S)


_shared: dict[tuple[str, str], Endpoints] = {}


def shared(url: str, strategy: str = ROUND_ROBIN) -> Endpoints:
    """The Endpoints of this list in this process."""
    key = (join_urls(url), strategy)
    found = _shared.get(key)
    if found is None:
        found = _shared.setdefault(key, Endpoints(split_urls(url), strategy))
    return found
