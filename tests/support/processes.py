"""Real processes for tests: workers of qcore and Celery, started, stopped, killed, cleaned up.

In:  a command line.  Out: a Process, in a session of its own, that ends with its test.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import sysconfig
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from tests.support.starter import ROOT, Started, alone, close_starters, share_starters, starter, starter_for
from tests.support.waiting import wait_for

READY = r"\bready\b"


def is_stopped(pid: int) -> bool:
    """Whether no thread of a process runs. Linux only."""
    stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return bool(stats) and all(text.rpartition(")")[2].split()[0] == "T" for text in stats)


class Process:
    """One process and everything it starts, with a log file of what they print."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        fresh: bool = True,
        imports: str = "",
        also: Sequence[str] = (),
    ) -> None:
        """fresh: in an interpreter of its own, even where a fork will do; the rest: see starter_for()."""
        self.command, self.log = list(command), log
        full = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **(env or {})}
        program = None if fresh else starter_for(self.command[1:], full, imports, also)
        self._process: subprocess.Popen[bytes] | Started
        with log.open("ab") as out, open(os.devnull) as null:
            if program is not None:
                files = [null.fileno(), out.fileno(), out.fileno()]
                self._process = starter(program).start(self.command[1:], full, ROOT, files)
                return
            self._process = subprocess.Popen(
                self.command, cwd=ROOT, env=full, stdin=null, stdout=out, stderr=out, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def _tell(self, number: int, group: bool) -> None:
        try:
            if group:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def kill9(self, group: bool = True) -> None:
        """SIGKILL, by default to the children too: a machine that loses power."""
        self._tell(signal.SIGKILL, group)
        self._process.wait(60)

    def stop(self) -> None:
        """SIGSTOP to all of it: a machine that hangs. Threads go on until one of them has seen the signal."""
        self._tell(signal.SIGSTOP, True)
        wait_for(lambda: is_stopped(self.pid), 60, f"process {self.pid} stops")

    def cont(self) -> None:
        self._tell(signal.SIGCONT, True)

    def term(self, number: int = signal.SIGTERM) -> None:
        """A signal to the process itself; it has to see to its children."""
        self._tell(number, False)

    def wait(self, timeout: float = 60.0) -> int:
        """The exit code; fails the test when it does not come."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.command} still runs after {timeout} s:\n{self.output()[-3000:]}"
            ) from None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_output(self, pattern: str, timeout: float = 60.0) -> re.Match[str]:
        """Until something that was printed matches; fails at once when the process has ended."""

        def look() -> re.Match[str] | None:
            running = self.is_running  # asked first: what it printed last is then in the file
            found = re.search(pattern, self.output())
            if found is None and not running:
                raise AssertionError(
                    f"{self.command} ended with {self._process.returncode}, without {pattern!r}:\n"
                    + self.output()[-3000:]
                )
            return found

        try:
            found = wait_for(look, timeout, pattern)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n--- output\n{self.output()[-3000:]}") from None
        assert found is not None
        return found

    def end(self) -> None:
        """Gone, with all of its group, whatever state it is in."""
        self._tell(signal.SIGCONT, True)
        self._tell(signal.SIGKILL, True)
        if self.is_running:
            self._process.wait(60)


class Processes:
    """Starts processes and ends them with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: modules that all programs of a test import: see starter_for()
        self.also: Sequence[str] = ()
        self._all: list[Process] = []

    def start(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        name: str = "",
        fresh: bool = True,
        imports: str = "",
    ) -> Process:
        log = self.folder / f"{name or Path(command[0]).name}-{len(self._all)}.log"
        self._all.append(Process(command, log, env, fresh and not imports, imports, self.also))
        return self._all[-1]

    def qctl(self, *args: str, env: Mapping[str, str] | None = None, fresh: bool = False) -> Process:
        return self.start(sys.executable, "-m", "qctl", *args, env=env, name="qctl", fresh=fresh)

    def celery(self, *args: str, env: Mapping[str, str] | None = None) -> Process:
        return self.start(sys.executable, "-m", "celery", *args, env=env, name="celery", fresh=False)

    def start_qcore_worker(
        self,
        url: str,
        *args: str,
        name: str = "",
        app: str = "tests.projects.proj",
        backend: str = "",
        ready: bool = True,
        env: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> Process:
        """`qctl worker`, ready to work when this returns."""
        node = name or f"q{uuid.uuid4().hex[:6]}@test"
        more = {"QCTL_RESULT_BACKEND": backend} if backend else {}
        words = ("-A", app, "-b", url, "worker", "-n", node, "-l", "INFO", *args)
        worker = self.qctl(*words, env={**more, **(env or {})}, fresh=fresh)
        if ready:
            worker.wait_output(READY)
        return worker

    def start_celery_worker(
        self,
        url: str,
        backend: str,
        *args: str,
        name: str = "",
        app: str = "tests.projects.celeryproj",
        ready: bool = True,
    ) -> Process:
        """Celery's own worker with the same tasks, ready to work when this returns."""
        node = name or f"c{uuid.uuid4().hex[:6]}@test"
        worker = self.celery(
            "-A", app, "worker", "-n", node, "-l", "INFO", *args, env=celery_env(url, backend)
        )
        if ready:
            worker.wait_output(READY, 60)
        return worker

    def close(self) -> None:
        for process in self._all:
            process.end()


def run_python(
    *words: str,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    stdin: str = "",
    imports: str = "",
    also: Sequence[str] = (),
    timeout_s: float = 100,
) -> subprocess.CompletedProcess[str]:
    """`python WORDS` to its end, as a fork where that will do. Raises subprocess.TimeoutExpired.

    env: all of its environment, by default that of the test; imports, also: see starter_for().
    """
    command = [sys.executable, *words]
    full = dict(os.environ if env is None else env)
    program = starter_for(words, full, imports, also)
    if program is None:
        return subprocess.run(
            command,
            env=full,
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        files = [given.fileno(), out.fileno(), err.fileno()]
        process = starter(program).start(words, full, cwd, files)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read().decode(), err.read().decode())


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of all processes of the run."""
    folder = factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def starters_end_with_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One for each program serves all processes of the run."""
    share_starters(shared_folder(tmp_path_factory))
    yield
    close_starters()


@pytest.fixture(scope="session")
def without_celery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that is installed here, except Celery: for `python -S`."""
    folder = shared_folder(tmp_path_factory) / "without-celery"
    celerys = importlib.metadata.distribution("celery")._path.name  # type: ignore[attr-defined]
    with alone(folder):
        if not folder.exists():
            folder.mkdir()
            for path in Path(sysconfig.get_path("purelib")).iterdir():
                if path.name not in ("celery", celerys):
                    (folder / path.name).symlink_to(path)
    return folder


def celery_env(url: str, backend: str) -> dict[str, str]:
    return {"CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": backend}


@pytest.fixture(scope="module")
def module_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Processes that live as long as the tests of their module."""
    started = Processes(tmp_path_factory.mktemp("module"))
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    try:
        yield started
    finally:
        started.close()
