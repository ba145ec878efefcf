"""Programs that begin as forks of a process that has imported them: a fifth of the CPU of a fresh start.

In:  what follows `python` on a command line.  Out: a Started, a Popen as far as tests use it, in a process of
its own, with its own environment, folder and files. starter_for() knows where a program needs a fresh
interpreter; a test that depends on one otherwise (terminal, /proc, memory) asks processes.py for it.

    python -m tests.support.starter SOCKET NAME MODULE...
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import hashlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
#: that of the starters, whatever a test sets later
ENVIRON = dict(os.environ)
#: what Python reads from the environment when it starts, and modules when they are imported
READ_AT_START = (
    *(
        "PYTHON",
        "LC_",
        "LANG",
        "LD_",
        "MALLOC_",
        "C_",
        "QCORE_",
        "NO_WORKER",
        "WORKER_LOGLEVEL",
        "CELERY_RDB",
    ),
    *("CELERY_CUSTOM", "CELERY_WORKER_", "CELERY_BENCH", "MP_", "USE_FAST_LOCALS", "TIMER_DEBUG", "ITERM"),
    *("AUTOSCALE_KEEPALIVE", "FORKED_BY", "EVENTLET_", "GEVENT_"),
)
#: the output of a starter is not buffered; a fork sets sys.path; workers ask for the last when they start
SET_LATER = {"PYTHONUNBUFFERED", "PYTHONPATH", "C_FORCE_ROOT"}
#: modules that most commands import only when they run
QCTL = (
    "qcore.app.loader",
    "qcore.brokers.redis.administration",
    "qcore.brokers.sqlite.broker",
    "qcore.control.client",
    "qcore.events.history.reading",
    "qcore.pools.prefork.pool",
    "qcore.results.broker",
    "qcore.worker.worker",
    "qctl.commands.events.command",
    "qctl.commands.failed",
    "qctl.commands.queue.command",
    "qctl.commands.remote.inspect",
    "qctl.commands.status",
    "qctl.main",
)
IMPORTS = {
    "qctl": QCTL,
    "qctl with kombu": (*QCTL, "qcore.brokers.kombu.broker"),
    "celery": (
        "celery.bin.celery",
        "celery.apps.worker",
        "celery.worker.consumer",
        "celery.concurrency.prefork",
        "celery.backends.redis",
        "kombu.transport.redis",
        "kombu.transport.pyamqp",
    ),
}


class Program(NamedTuple):
    """What a starter imports."""

    imports: str  # a key of IMPORTS
    also: tuple[str, ...] = ()
    packages: str = ""  # PYTHONPATH of an interpreter without site-packages


class Starter:
    """The process that imported one program, for all processes of a run, and the requests of this one."""

    def __init__(self, program: Program, folder: Path) -> None:
        """folder: what all processes of a run share; the first of them that asks starts it."""
        path = folder / hashlib.sha256(repr(program).encode()).hexdigest()[:8]
        self._skipped = 1 if program.packages else 0
        self._process: subprocess.Popen[bytes] | None = None
        with alone(path):
            if not path.exists():
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, *(["-S"] if program.packages else [])),
                        *("-m", "tests.support.starter", str(path), program.imports, *program.also),
                    ],
                    cwd=ROOT,
                    env={
                        **ENVIRON,
                        "PYTHONPATH": program.packages or str(ROOT),
                        "PYTHONUNBUFFERED": "1",
                    },
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the tests, which end it
                )
                wait_for(path.exists, what=f"the starter of {program.imports} listens")
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(str(path))
        self._lock = threading.Lock()

    def start(self, words: Sequence[str], env: Mapping[str, str], cwd: Path, files: Sequence[int]) -> Started:
        """Fork; `files` are the descriptors of its input, output and errors."""
        reports, theirs = os.pipe()
        request = json.dumps([list(words)[self._skipped :], dict(env), str(cwd)]).encode()
        try:
            with self._lock:
                socket.send_fds(self._socket, [len(request).to_bytes(4, "big")], [*files, theirs])
                self._socket.sendall(request)
        finally:
            os.close(theirs)
        return Started([*words], reports)

    def leave(self) -> None:
        """It ends when all have left."""
        self._socket.shutdown(socket.SHUT_RDWR)  # a child of the tests may have it too
        self._socket.close()

    def wait(self) -> None:
        """Until it has ended, if this process started it: so its CPU counts as that of the tests."""
        if self._process is not None:
            self._process.wait()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """While no other process of the run starts, joins or ends the starter of this socket."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Started:
    """A process that a Starter forked."""

    def __init__(self, args: list[str], reports: int) -> None:
        self.args, self._reports = args, os.fdopen(reports)
        self.pid = int(self._reports.readline())
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit code; minus the number of the signal that ended it; None while it runs."""
        with self._lock:
            if self.returncode is None and select.select([self._reports], [], [], 0)[0]:
                self._read()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        with self._lock:
            if self.returncode is None:
                if not select.select([self._reports], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                self._read()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _read(self) -> None:
        self.returncode = int(self._reports.readline())
        self._reports.close()


_starters: dict[Program, Starter] = {}
_starting = threading.Lock()
_folders: list[Path] = []


def share_starters(folder: Path) -> None:
    """folder: one that all processes of this run share, and only they use."""
    _folders[:] = [folder]


def starter(program: Program) -> Starter:
    """The one of a program; started when it is needed first, ended by close_starters()."""
    with _starting:
        if program not in _starters:
            _starters[program] = Starter(program, _folders[0])
        return _starters[program]


def close_starters() -> None:
    """Of all processes; the one that started it waits for its end."""
    left = [*_starters.values()]
    _starters.clear()
    for one in left:
        one.leave()
    for one in left:
        one.wait()


def starter_for(
    words: Sequence[str], env: Mapping[str, str], imports: str = "", also: Sequence[str] = ()
) -> Program | None:
    """What the starter imports that can fork `python WORDS`; None where it takes a fresh interpreter.

    imports: which of `celery` and `qctl` (and so qcore) it imports, if -m does not name one of them.
    also: modules that cost much and that it imports in any case; those of kombu for a program of qctl too.
    """
    packages = ""
    if words[0] == "-S":
        words, packages = words[1:], env["PYTHONPATH"]
        env = {**env, "PYTHONPATH": ""}
    program = imports or (words[1] if words[0] == "-m" else "")
    pools = {text.removeprefix("--pool=").removeprefix("-P") for text in words}
    if program not in ("celery", "qctl") or "flower" in words or not is_read_alike(env):
        return None
    if pools & {"eventlet", "gevent"}:  # they replace modules, and so come first
        return None
    # kombu changes what qcore does, so only a program that will import it begins with it.
    rabbit = program == "qctl" and any(text.startswith("amqp") for text in [*words, *env.values()])
    return Program("qctl with kombu" if rabbit else program, tuple(also), packages)


def is_read_alike(env: Mapping[str, str]) -> bool:
    """Whether Python and our modules read of it at their start what they read in the starter."""
    names = {name for name in {*env, *ENVIRON} if name.startswith(READ_AT_START)}
    if any((env.get(name) or "") != ENVIRON.get(name, "") for name in names - SET_LATER):
        return False
    added = set(env.get("PYTHONPATH", "").split(os.pathsep)) - {"", str(ROOT), *sys.path}
    return not any([*Path(text).glob("*customize.py"), *Path(text).glob("*-info")] for text in added)


# --- in the process that forks


def _main() -> None:
    """Fork at each request; returns in a child only, after its program has run."""
    path, name, *also = Path(sys.argv[1]), *sys.argv[2:]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path.with_suffix(".new")))
    listener.listen(64)
    path.with_suffix(".new").rename(path)
    if name == "celery":  # without its plug-in flower, whose import takes a quarter of the start
        import click

        sys.modules["flower.command"] = SimpleNamespace(flower=click.Command("flower"))  # type: ignore[assignment]
    for module in (*IMPORTS[name], *also):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    wakes, woken = os.pipe()
    os.set_blocking(wakes, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    children: dict[int, int] = {}
    listener.settimeout(60)  # the tests may have been killed before they have joined
    asking = [listener.accept()[0]]
    listener.settimeout(None)
    while True:
        readable, _, _ = select.select([listener, wakes, *asking], [], [])
        if wakes in readable:
            os.read(wakes, 4096)
            _report_ended(children)
        if listener in readable:
            asking.append(listener.accept()[0])
        for requests in [one for one in asking if one in readable]:
            size, files, _, _ = socket.recv_fds(requests, 4, 4)
            if not size:
                requests.close()
                asking.remove(requests)
                _end_without(asking, listener, path)
                continue
            words, env, cwd = json.loads(_read_all(requests, int.from_bytes(size, "big")))
            pid = os.fork()
            if pid:
                children[pid] = files[3]
                for file in files[:3]:
                    os.close(file)
                continue
            os.setsid()
            os.write(files[3], f"{os.getpid()}\n".encode())  # from here on a signal reaches its group
            for one in (listener, *asking):
                one.close()
            for file in (wakes, woken, files[3], *children.values()):
                os.close(file)
            _enter(files[:3], env, cwd)
            _end(_run(words, cwd))
            return


def _end_without(asking: list[socket.socket], listener: socket.socket, path: Path) -> None:
    """End when all have left and nobody has just joined."""
    if asking:
        return
    with alone(path):
        if not select.select([listener], [], [], 0)[0]:
            path.unlink()
            os._exit(0)


def _enter(files: list[int], env: dict[str, str], cwd: str) -> None:
    """In the child: files, environment, folder and path are its own, and no signal is handled."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    added = [text for text in env.get("PYTHONPATH", "").split(os.pathsep) if text]
    sys.path[1:] = [*added, *(text for text in sys.path[1:] if text not in (*added, str(ROOT)))]


def _read_all(requests: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += requests.recv(size - len(found))
    return found


def _report_ended(children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        report = children.pop(pid)
        try:
            os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        except BrokenPipeError:
            pass  # whoever started it does not wait for its end
        os.close(report)


def _run(words: list[str], cwd: str) -> int:
    """As `python WORDS` does, in the folder `cwd`; its exit code. What it raises besides, Python shows."""
    try:
        if words[0] == "-m":
            sys.path[0], sys.argv = cwd, words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        elif words[0] == "-c":
            sys.path[0], sys.argv = "", ["-c", *words[2:]]
            sys.modules["__main__"] = main = ModuleType("__main__")
            exec(compile(words[1], "<string>", "exec"), vars(main))
        else:
            sys.path[0], sys.argv = str(Path(words[0]).parent), words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as exc:
        if isinstance(exc.code, str):
            raise
        return exc.code or 0
    return 0


def _end(code: int) -> None:
    """As Python ends, but no object is deleted: that would copy the pages of what the starter imported."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    _main()
