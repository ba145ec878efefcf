"""A primary, a replica and three sentinels that watch them: real processes, gone at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.redis_server import RedisServer, require_server
from tests.support.waiting import wait_for

NAME = "mymaster"
DEAD_AFTER_MS = 500


class SentinelServer(RedisServer):
    """One sentinel."""

    def __init__(self, binary: str, primary: int) -> None:
        self._primary = primary
        super().__init__(binary)

    def start(self) -> None:
        config = Path(self.dir) / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.dir}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {self._primary} 2\n"
            f"sentinel down-after-milliseconds {NAME} {DEAD_AFTER_MS}\n"
            f"sentinel failover-timeout {NAME} 3000\n"
        )
        self.launch([self.binary, str(config), "--sentinel"])


class Watched:
    """The whole of it."""

    def __init__(self) -> None:
        binary = require_server()
        options = ("--repl-diskless-sync-delay", "0", "--appendonly", "yes")
        self.servers = [RedisServer(binary, *options) for _ in range(2)]
        primary, replica = self.servers
        with replica.client() as client:
            client.replicaof("127.0.0.1", primary.port)
            wait_for(lambda: client.info("replication").get("master_link_status") == "up", 60, "in step")
        self.sentinels = [SentinelServer(binary, primary.port) for _ in range(3)]
        wait_for(self._agreed, 60, "the sentinels know of each other and of the replica")

    def _agreed(self) -> bool:
        states = [self.state(sentinel) for sentinel in self.sentinels]
        return all(s["num-other-sentinels"] == 2 and s["num-slaves"] == 1 for s in states)

    def state(self, sentinel: RedisServer) -> dict[str, int]:
        with sentinel.client() as client:
            found: dict[str, int] = client.sentinel_masters()[NAME]
            return found

    @property
    def url(self) -> str:
        return ";".join(f"sentinel://127.0.0.1:{sentinel.port}/0" for sentinel in self.sentinels)

    def primary(self) -> RedisServer:
        """The one that says so itself."""

        def find() -> RedisServer | None:
            for server in self.servers:
                try:
                    with server.client() as client:
                        if client.info("replication")["role"] == "master":
                            return server
                except redis.RedisError:
                    continue
            return None

        found = wait_for(find, 60, "a primary")
        assert found is not None
        return found

    def close(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.stop()


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.close()
