"""Where contestants run: a private Redis server, workers, and clients in their own environments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.lineup import Side
from benchmarks.runtimes import Runtime, runtime
from benchmarks.venvs import interpreter
from tests.support.processes import Processes
from tests.support.rabbit_server import RabbitServer, find_rabbitmq
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).resolve().parent.parent
SETTLE_S = 30.0


class Invalid(Exception):
    """A run that did not do what it should have done: its time means nothing."""


class Talk:
    """A client that says what it has done, a line of JSON at a time, and waits to be told to go on."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.what = " ".join(command[3:])
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors, text=True,
        )  # fmt: skip
        self.pid = self._process.pid

    def hear(self) -> dict[str, Any]:
        """The next thing it says. Raises Invalid when it ends without saying it."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                said: dict[str, Any] = json.loads(line)
                return said
        self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().strip().splitlines()[-12:]
        raise Invalid(f"{self.what}: " + "\n".join(words))

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()


class Fleet:
    """The workers of one contestant."""

    def __init__(self, processes: Processes, commands: list[list[str]], env: dict[str, str]) -> None:
        self.parents = [processes.start(*command, env=env, name="worker").pid for command in commands]

    def pids(self) -> list[int]:
        return machine.tree(self.parents)

    def children(self) -> list[int]:
        return [pid for pid in self.pids() if pid not in self.parents]

    def pause(self) -> None:
        """Stop every process where it stands: work can be queued, and none is done."""
        _tell(self.pids(), signal.SIGSTOP)

    def resume(self) -> None:
        """Children first, so that the parent's first work has somebody to go to."""
        _tell(self.pids()[::-1], signal.SIGCONT)

    def settle(self) -> None:
        """Until the workers have been quiet for half a second. Raises Invalid when they never are."""
        stop = time.monotonic() + SETTLE_S
        before = -1.0
        while (now := machine.cpu_s(self.pids())) - before > 0.05:
            if time.monotonic() > stop:
                raise Invalid(f"the workers did not come to rest within {SETTLE_S:.0f} s")
            before = now
            time.sleep(0.5)


class Arena:
    """One for the whole benchmark; every measurement begins with an empty server."""

    def __init__(self, binary: str, own_venvs: bool) -> None:
        self.own_venvs = own_venvs
        self.redis = RedisServer(binary)
        self._described: dict[str, dict[str, Any]] = {}
        self._runtimes: dict[str, Runtime] = {}

    def python(self, side: Side) -> str:
        """Raises NotInstalled."""
        return interpreter(side.venv if self.own_venvs else "")

    def runtime(self, side: Side) -> Runtime:
        """What its workers run on. Raises NotInstalled."""
        if side.name not in self._runtimes:
            self._runtimes[side.name] = runtime(side, self.python(side))
        return self._runtimes[side.name]

    def describe(self, side: Side) -> dict[str, Any]:
        if side.name not in self._described:
            more = {"BENCH_URL": "sqlite:////nowhere"} if side.figures == ("sqlite",) else {}
            self._described[side.name] = self.ask(side, "describe", **more)
        return self._described[side.name]

    def tasks(self, side: Side, wanted: int | None) -> int:
        """How many tasks a figure of this contestant takes: as its file says, unless told otherwise."""
        return wanted or int(self.describe(side)["tasks"])

    def empty(self) -> None:
        with self.redis.client() as client:
            client.flushall()

    def ask(self, side: Side, what: str, *words: object, **env: str) -> dict[str, Any]:
        """One client from start to end; what it said."""
        talk = self.talk(side, what, *words, **env)
        try:
            return talk.hear()
        finally:
            talk.end()

    def talk(self, side: Side, what: str, *words: object, **env: str) -> Talk:
        command = [self.python(side), "-m", "benchmarks.client", side.module, what, *map(str, words)]
        return Talk(command, {**os.environ, "PYTHONPATH": str(ROOT), **self.environ(side, env)})

    @contextmanager
    def workers(self, side: Side, children: int = 2, **env: str) -> Iterator[Fleet]:
        """Its workers, started; they are killed at the end."""
        commands = self.commands(side, children, **env)
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
            processes = Processes(Path(folder))
            try:
                yield self.start(side, processes, commands, **env)
            except Invalid as exc:
                logs = "".join(p.output()[-1500:] for p in processes._all)
                raise Invalid(f"{exc}\n--- worker\n{logs[-3000:]}") from exc
            finally:
                pids = machine.tree(p.pid for p in processes._all)
                processes.close()
                _tell(pids, signal.SIGKILL)  # what left its parent's group is ours all the same

    def commands(self, side: Side, children: int = 2, **env: str) -> list[list[str]]:
        found: list[list[str]] = self.ask(side, "workers", children, **env)["commands"]
        return [[self.runtime(side).program, *command] for command in found]

    def start(self, side: Side, processes: Processes, commands: list[list[str]], **env: str) -> Fleet:
        more = self.describe(side)["environ"]
        return Fleet(processes, commands, {**self.environ(side, env), **more})

    def environ(self, side: Side, more: dict[str, str]) -> dict[str, str]:
        where = {"BENCH_URL": self.redis.url, "BENCH_KIND": side.kind}
        return {**where, **self.runtime(side).environ, **more}

    @cached_property
    def rabbit(self) -> RabbitServer | None:
        """Started when first needed; None when RabbitMQ is not installed."""
        folder = find_rabbitmq()
        if folder is None:
            return None
        server = RabbitServer(folder)
        server.start()
        return server

    def close(self) -> None:
        self.redis.stop()
        if (server := self.__dict__.get("rabbit")) is not None:
            server.close()


def _tell(pids: list[int], number: int) -> None:
    """Send a signal to each that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
