"""A real RabbitMQ for tests: one per session, one virtual host per test.

Everything it writes is in a temporary directory and every port is a free one of the loopback
interface. The node reads an Erlang shell on its standard input: that makes a virtual host in
milliseconds where rabbitmqctl takes a second, and it halts the node when this process is gone,
however it went.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import wait_for

_PLACES = ("/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/usr/local/sbin")
_START_S = 60.0
_PR_SET_PDEATHSIG = 1
_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
loopback_users = none
log.console = false
log.file.level = warning
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 1MB
"""


def find_rabbitmq() -> Path | None:
    """The directory of RabbitMQ's own scripts; the wrapper in /usr/sbin changes the user, so not that."""
    for place in _PLACES:
        if Path(place, "rabbitmq-server").exists() and shutil.which("epmd"):
            return Path(place)
    return None


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _die_with_parent() -> None:
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):
        pass  # not Linux: the finalizer and atexit have to do


class RabbitServer:
    """One node, its epmd, and the shell on the node's standard input."""

    def __init__(self, bin_dir: Path) -> None:
        self.bin_dir = bin_dir
        self.home = Path(tempfile.mkdtemp(prefix="qcore-rabbit-"))
        self.port, self.epmd_port, self.dist_port = free_port(), free_port(), free_port()
        self.node = f"qcore{os.getpid()}@localhost"
        self.log = self.home / "console.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.epmd: subprocess.Popen[bytes] | None = None
        self._asked = 0
        (self.home / "rabbitmq.conf").write_text(_CONFIG.format(port=self.port))
        (self.home / "plugins").write_text("[].")
        (self.home / "env.conf").write_text("")
        atexit.register(self.close)

    @property
    def url(self) -> str:
        """The default virtual host."""
        return self.url_of("%2F")

    def url_of(self, vhost: str, password: str = "guest") -> str:
        return f"amqp://guest:{password}@127.0.0.1:{self.port}/{vhost}"

    def env(self) -> dict[str, str]:
        home = str(self.home)
        return {
            **os.environ,
            "HOME": home,  # where Erlang keeps its cookie
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_MNESIA_BASE": f"{home}/db",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": f"{home}/env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +A 4 -start_epmd false",
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def start(self) -> None:
        """Start and wait until it takes connections; the data of an earlier start is still there."""
        env = self.env()
        if self.epmd is None or self.epmd.poll() is not None:
            self.epmd = subprocess.Popen(
                ["epmd", "-port", str(self.epmd_port), "-address", "127.0.0.1"],
                env=env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is ours to handle
                preexec_fn=_die_with_parent,
            )
            wait_for(lambda: _listens(self.epmd_port), 60, "epmd listens")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.bin_dir / "rabbitmq-server")],
                env=env,
                cwd=self.home,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        wait_for(self._is_up, _START_S, f"RabbitMQ listens on port {self.port}")

    def _is_up(self) -> bool:
        process = self.process
        if process is None or process.poll() is not None:
            raise AssertionError(f"RabbitMQ ended: {self.log.read_text(errors='replace')[-2000:]}")
        return _listens(self.port)

    def ask(self, expression: str, timeout_s: float = 60.0) -> str:
        """Evaluate one Erlang expression in the node; what it returns, as text."""
        process = self.process
        assert process is not None and process.stdin is not None
        self._asked += 1
        mark = f"qcore_asks_{self._asked}"
        start = self.log.stat().st_size
        # The name is spelled so that an echo of the question is not taken for the answer.
        words = f"['qcore_', 'asks_{self._asked}', begin {expression} end]"
        process.stdin.write(f'io:format("<~s~s ~0p>~n", {words}).\n'.encode())
        process.stdin.flush()

        def answer() -> str:
            with self.log.open("rb") as log:
                log.seek(start)
                text = log.read().decode(errors="replace")
            found = re.search(rf"<{mark} (.*?)>\s*\n", text, re.S)
            return found[1] if found else ""

        return wait_for(answer, timeout_s, expression)

    def ctl(self, *args: str) -> str:
        """rabbitmqctl, for what ask() cannot say well; takes a second."""
        done = subprocess.run(
            [str(self.bin_dir / "rabbitmqctl"), "-n", self.node, *args],
            env={**self.env(), "RABBITMQ_ALLOW_INPUT": ""},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def add_vhost(self, name: str) -> str:
        """A virtual host that guest may use; its URL."""
        self.ask(
            f'rabbit_vhost:add(<<"{name}">>, <<"qcore">>), rabbit_auth_backend_internal:set_permissions('
            f'<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"qcore">>)'
        )
        return self.url_of(name)

    def delete_vhost(self, name: str) -> None:
        self.ask(f'rabbit_vhost:delete(<<"{name}">>, <<"qcore">>)')

    def kill_connections(self) -> None:
        """Close every client's connection from the server's side."""
        self.ask('[rabbit_networking:close_connection(P, "a test") || P <- rabbit_networking:connections()]')

    def kill9(self) -> None:
        """As a power cut would end it."""
        if self.process is not None and self.process.poll() is None:
            _signal(self.process, signal.SIGKILL)
            self.process.wait(60)

    def restart(self) -> None:
        """Killed if it still runs, then started with the same data on the same port."""
        self.kill9()
        self.start()

    def stop(self) -> None:
        """SIGSTOP: it takes connections and answers nothing."""
        assert self.process is not None
        _signal(self.process, signal.SIGSTOP)

    def cont(self) -> None:
        assert self.process is not None
        _signal(self.process, signal.SIGCONT)

    def close(self) -> None:
        """End the node and epmd and delete the data; may be called twice."""
        atexit.unregister(self.close)
        for process in (self.process, self.epmd):
            if process is None or process.poll() is not None:
                continue
            _signal(process, signal.SIGKILL)
            process.wait(60)
            if process.stdin is not None:
                process.stdin.close()
        shutil.rmtree(self.home, ignore_errors=True)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To the process and its helpers: each was started as the leader of a group of its own."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def rabbit_server() -> Iterator[RabbitServer]:
    bin_dir = find_rabbitmq()
    if bin_dir is None:
        from tests.conftest import missing_service  # late: conftest names this module

        missing_service("no rabbitmq-server is installed")
    assert bin_dir is not None
    server = RabbitServer(bin_dir)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def rabbit_url(rabbit_server: RabbitServer) -> Iterator[str]:
    """The URL of a virtual host that only this test uses."""
    if rabbit_server.process is None or rabbit_server.process.poll() is not None:
        rabbit_server.start()  # an earlier test killed it
    name = f"t{time.time_ns() % 10**9}{uuid.uuid4().hex[:6]}"
    yield rabbit_server.add_vhost(name)
    if rabbit_server.process is not None and rabbit_server.process.poll() is None:
        rabbit_server.delete_vhost(name)
