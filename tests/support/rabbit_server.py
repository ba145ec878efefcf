"""A real RabbitMQ for tests: one for all processes of pytest-xdist, one virtual host per test.

Everything it writes is in a temporary directory and every port is a free one of the loopback
interface. The node reads an Erlang shell on its standard input: that makes a virtual host in
milliseconds where rabbitmqctl takes a second, and it halts the node when nobody is left who holds
the other end, however they went. A test that kills, stops or bends the node as a whole is marked
`own_rabbit`: it gets a node that no other process uses.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.redis_server import free_port
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

#: the node, and its epmd for as long as it runs
_NODE_AND_EPMD = """
epmd -port "$1" -address 127.0.0.1 >/dev/null 2>&1 &
until epmd -port "$1" -names >/dev/null 2>&1; do kill -0 $! || exit 1; sleep 0.05; done
"$2"
kill $!
"""


def find_rabbitmq() -> Path | None:
    """The directory of RabbitMQ's own scripts; the wrapper in /usr/sbin changes the user, so not that."""
    for place in _PLACES:
        if Path(place, "rabbitmq-server").exists() and shutil.which("epmd"):
            return Path(place)
    return None


def _die_with_parent() -> None:
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):
        pass  # not Linux: the finalizer and atexit have to do


class RabbitServer:
    """One node, its epmd, and the shell on the node's standard input."""

    def __init__(self, bin_dir: Path, home: Path | None = None) -> None:
        self.bin_dir = bin_dir
        self.home = home or Path(tempfile.mkdtemp(prefix="qcore-rabbit-"))
        self.port, self.epmd_port, self.dist_port = free_port(), free_port(), free_port()
        self.node = f"qcore{os.getpid()}{'shared' if home else ''}@localhost"
        self.process: subprocess.Popen[bytes] | None = None
        self.epmd: subprocess.Popen[bytes] | None = None
        self._asked = 0
        atexit.register(self.close)

    @property
    def log(self) -> Path:
        """What the node prints, the answers of its shell too."""
        return self.home / "console.log"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def is_ours(self) -> bool:
        """Whether this process can use it as it is."""
        return self.is_running

    def _configure(self) -> None:
        (self.home / "rabbitmq.conf").write_text(_CONFIG.format(port=self.port))
        (self.home / "plugins").write_text("[].")
        (self.home / "env.conf").write_text("")

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
            # Small tables, and no thread that waits busily: a sixth of the CPU of a start.
            "RABBITMQ_SERVER_ERL_ARGS": "+P 65536 +t 1048576 +sbwt none +sbwtdcpu none +sbwtdio none",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +A 4 -start_epmd false",
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def start(self) -> None:
        """Start and wait until it takes connections; the data of an earlier start is still there."""
        env = self.env()
        self._configure()
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
        self._asked += 1
        mark = f"qcore_asks_{os.getpid()}_{self._asked}"
        start = self.log.stat().st_size
        # The name is spelled so that an echo of the question is not taken for the answer.
        words = f"['qcore_', '{mark[6:]}', begin {expression} end]"
        self._write(f'io:format("<~s~s ~0p>~n", {words}).\n'.encode())

        def answer() -> str:
            with self.log.open("rb") as log:
                log.seek(start)
                text = log.read().decode(errors="replace")
            found = re.search(rf"<{mark} (.*?)>\s*\n", text, re.S)
            return found[1] if found else ""

        return wait_for(answer, timeout_s, expression)

    def _write(self, data: bytes) -> None:
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def ask_rows(self, expression: str) -> list[list[str]]:
        """What an expression returns that makes a list of property lists: the values as text."""
        texts = (
            "case V of {resource, _, _, N} -> N; B when is_binary(B) -> B; "
            'L when is_list(L) -> io_lib:format("~0p", [lists:sort(L)]); _ -> io_lib:format("~0p", [V]) end'
        )
        path = self.home / f"rows-{os.getpid()}.json"
        rows = f"[[iolist_to_binary({texts}) || {{_, V}} <- Row] || Row <- {expression}]"
        assert self.ask(f'file:write_file("{path}", rabbit_json:encode({rows}))') == "ok"
        found: list[list[str]] = json.loads(path.read_text())
        return found

    def add_vhost(self, name: str) -> str:
        """A virtual host that guest may use; its URL."""
        self.ask(
            f'rabbit_vhost:add(<<"{name}">>, <<"qcore">>), rabbit_auth_backend_internal:set_permissions('
            f'<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"qcore">>)'
        )
        return self.url_of(name)

    def delete_vhost(self, name: str) -> None:
        self.ask(f'rabbit_vhost:delete(<<"{name}">>, <<"qcore">>)')

    def kill_connections(self, url: str) -> None:
        """Close every client's connection to the virtual host of this URL from the server's side."""
        vhost = url.rpartition("/")[2]
        self.ask(
            '[rabbit_networking:close_connection(P, "a test") || P <- rabbit_networking:connections(), '
            f'[{{vhost, <<"{vhost}">>}}] == (catch rabbit_networking:connection_info(P, [vhost]))]'
        )

    def kill9(self) -> None:
        """As a power cut would end it."""
        if self.process is not None and self.process.poll() is None:
            _signal(self.process.pid, signal.SIGKILL)
            self.process.wait(60)

    def restart(self) -> None:
        """Killed if it still runs, then started with the same data on the same port."""
        self.kill9()
        self.start()

    def stop(self) -> None:
        """SIGSTOP: it takes connections and answers nothing."""
        assert self.process is not None
        _signal(self.process.pid, signal.SIGSTOP)

    def cont(self) -> None:
        assert self.process is not None
        _signal(self.process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the node and epmd and delete the data; may be called twice."""
        atexit.unregister(self.close)
        for process in (self.process, self.epmd):
            if process is None or process.poll() is not None:
                continue
            _signal(process.pid, signal.SIGKILL)
            process.wait(60)
            if process.stdin is not None:
                process.stdin.close()
        shutil.rmtree(self.home, ignore_errors=True)


def _signal(group: int, number: int) -> None:
    """To a process and its helpers: each was started as the leader of a group of its own."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class SharedRabbitServer(RabbitServer):
    """One node for all processes of a run: whoever comes first starts it, whoever leaves last ends it.

    In:  a folder that they share.  Each holds the writing end of the pipe that the node reads, and a
    shared lock on `users`. The node and its epmd end by themselves when the pipe has no writer left.
    """

    def __init__(self, bin_dir: Path, folder: Path) -> None:
        super().__init__(bin_dir, folder / "node")
        self._folder, self._pipe, self._users, self._group = folder, -1, -1, 0
        folder.mkdir(exist_ok=True)

    def start(self) -> None:
        """Join the node that runs, or start one."""
        with self._alone():
            if self._users < 0:
                self._users = os.open(self._folder / "users", os.O_RDWR | os.O_CREAT)
                fcntl.flock(self._users, fcntl.LOCK_SH)
            if not self._join():
                self._begin()

    @property
    def is_running(self) -> bool:
        """Whether the node still reads the pipe."""
        try:
            os.close(os.open(self.home / "input", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    @property
    def is_ours(self) -> bool:
        return self._pipe >= 0 and self.is_running

    def kill9(self) -> None:
        raise AssertionError("others use this node: mark the test own_rabbit")

    stop = cont = kill9

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _open_pipe(self, flags: int) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe = os.open(self.home / "input", flags)

    def _join(self) -> bool:
        if not self.is_running:
            return False
        self._open_pipe(os.O_WRONLY)
        found = json.loads((self.home / "state").read_text())
        self._group, self.port, self.epmd_port, self.dist_port, self.node = found
        return True

    def _begin(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        self._configure()
        os.mkfifo(self.home / "input")
        self._open_pipe(os.O_RDWR)  # with a reader of its own the opening does not wait for the node
        words = [str(self.epmd_port), str(self.bin_dir / "rabbitmq-server")]
        with self.log.open("ab") as log, (self.home / "input").open("rb") as input_end:
            self.process = subprocess.Popen(
                ["sh", "-c", _NODE_AND_EPMD, "sh", *words],
                env=self.env(),
                cwd=self.home,
                stdin=input_end,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._open_pipe(os.O_WRONLY)
        self._group = self.process.pid
        try:
            wait_for(self._is_up, _START_S, f"RabbitMQ listens on port {self.port}")
        except AssertionError:
            _signal(self._group, signal.SIGKILL)
            raise
        state = [self._group, self.port, self.epmd_port, self.dist_port, self.node]
        (self.home / "state").write_text(json.dumps(state))

    def _write(self, data: bytes) -> None:
        assert len(data) <= select.PIPE_BUF  # longer ones of two processes could be mixed
        os.write(self._pipe, data)

    def close(self) -> None:
        """Leave; the last to do so ends the node and deletes the data. May be called twice."""
        atexit.unregister(self.close)
        if self._users < 0:
            return
        with self._alone():
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # others use it
            else:
                if self.is_running:
                    _signal(self._group, signal.SIGKILL)
                shutil.rmtree(self.home, ignore_errors=True)
            for end in (self._pipe, self._users):
                os.close(end)
            self._pipe = self._users = -1


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "own_rabbit: kills, stops or bends the node of RabbitMQ as a whole")


def _require_rabbitmq() -> Path:
    """The directory of RabbitMQ's scripts; skips the test (fails in CI) when there is none."""
    bin_dir = find_rabbitmq()
    if bin_dir is None:
        from tests.conftest import missing_service  # late: conftest names this module

        missing_service("no rabbitmq-server is installed")
    assert bin_dir is not None
    return bin_dir


@pytest.fixture(scope="session")
def shared_rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """The node of all processes of this run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    server = SharedRabbitServer(_require_rabbitmq(), folder / "rabbit")
    yield server
    server.close()


@pytest.fixture(scope="session")
def own_rabbit() -> Iterator[RabbitServer]:
    """A node of this process alone."""
    server = RabbitServer(_require_rabbitmq())
    yield server
    server.close()


@pytest.fixture
def rabbit_server(request: pytest.FixtureRequest) -> RabbitServer:
    """The node that all share; for a test that is marked so, one of its own. It runs."""
    own = request.node.get_closest_marker("own_rabbit") is not None
    server: RabbitServer = request.getfixturevalue("own_rabbit" if own else "shared_rabbit")
    if not server.is_ours:
        server.start()  # the first that asks, or an earlier test killed it
    return server


@pytest.fixture
def rabbit_url(rabbit_server: RabbitServer) -> Iterator[str]:
    """The URL of a virtual host that only this test uses."""
    name = f"t{time.time_ns() % 10**9}{uuid.uuid4().hex[:6]}"
    yield rabbit_server.add_vhost(name)
    if rabbit_server.is_running:
        rabbit_server.delete_vhost(name)
