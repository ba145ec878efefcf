"""One broker, one history, and the workers of one test under fault."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.base.times import new_id
from qcore.brokers.contract.administration import Depth
from qcore.brokers.contract.records import Message
from qcore.wire import envelope
from tests.faults.history import History, Verdict, note_all
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_for

PROJECT = "tests.faults.project"


class Fleet:
    """`url` is where the test looks from; workers may be sent through another one."""

    def __init__(self, url: str, processes: Processes, folder: Path) -> None:
        self.url, self.processes = url, processes
        self.path = folder / f"history-{uuid.uuid4().hex[:6]}"
        self.history = History(self.path)
        self.app = App(f"fleet-{uuid.uuid4().hex[:6]}", broker=url, set_as_current=False)
        self.app.broker.consumer(["celery"]).close()  # the queue exists before anything is sent to it

    # --- tasks

    def work(self, ident: str, seconds: float = 0.0, deadly: bool = False, **options: Any) -> Message:
        """A message of the task that writes its history."""
        arguments = (str(self.path), ident, seconds, deadly)
        return self.message("faults.work", arguments, ident, **{"ignore_result": True, **options})

    def message(self, name: str, arguments: tuple[Any, ...], ident: str, **options: Any) -> Message:
        return self.app.message(name, arguments, {}, f"{ident}-{new_id()[:8]}", options)

    def link(self, ident: str) -> dict[str, Any]:
        """The same task as the next link of a chain, as data."""
        return {
            "task": "faults.work",
            "args": [str(self.path), ident],
            "kwargs": {},
            "options": {"task_id": f"{ident}-{new_id()[:8]}"},
            "immutable": True,
        }

    def expect(self, idents: Iterable[str]) -> None:
        """These follow from what was published, so they must be run as well."""
        note_all(self.path, "published", idents)

    @staticmethod
    def task_id(message: Message) -> str:
        return str(envelope.decode(message.raw).headers["id"])

    def publish(self, messages: dict[str, Message]) -> None:
        """All of them, by id, in one publish, and into the history."""
        self.app.broker.publish(list(messages.values()))
        note_all(self.path, "published", messages)

    def publish_many(self, count: int, seconds: float = 0.0, prefix: str = "t", **options: Any) -> list[str]:
        names = [f"{prefix}{i}" for i in range(count)]
        self.publish({name: self.work(name, seconds, **options) for name in names})
        return names

    # --- workers

    def worker(
        self,
        *options: str,
        url: str = "",
        app: str = PROJECT,
        lease_s: float = 1.0,
        env: dict[str, str] | None = None,
        **more: Any,
    ) -> Process:
        variables = {"QCTL_LEASE": str(lease_s), **(env or {})}
        options = options if "-c" in options else ("-c", "2", *options)
        options = options if "-l" in options else (*options, "-l", "WARNING")
        return self.processes.start_qcore_worker(url or self.url, *options, app=app, env=variables, **more)

    # --- ends

    def wait_done(self, timeout_s: float = 60.0) -> None:
        """Until every published task has finished and the broker holds nothing."""
        try:
            wait_for(self.history.all_finished, timeout_s, "all tasks finished")
            wait_for(lambda: self.depth() in (Depth(0, 0, 0), Depth(0, None, None)), 60, "nothing is left")
        except AssertionError as exc:
            verdict = self.history.verdict()
            words = f"{exc}\n{verdict}; {self.depth()}\n{verdict.stories(verdict.lost)}"
            raise AssertionError(words) from None

    def depth(self, queue: str = "celery") -> Depth:
        return self.app.broker.administration.depth(queue)

    def verdict(self, late_after_s: float | None = None) -> Verdict:
        return self.history.verdict(late_after_s)

    def wait_started(self, count: int, timeout_s: float = 60.0) -> None:
        wait_for(lambda: self.history.count("started") >= count, timeout_s, f"{count} tasks started")

    def wait_finished(self, count: int, timeout_s: float = 60.0) -> None:
        wait_for(lambda: self.history.count("finished") >= count, timeout_s, f"{count} tasks finished")

    def close(self) -> None:
        self.app.close()


def children(worker: Process) -> list[int]:
    """The processes that run tasks: children of the worker's fork server."""
    (fork_server,) = _children_of(worker.pid) or [0]
    return _children_of(fork_server) if fork_server else []


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _children_of(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(part) for part in text.split()]


def rss_kib(pid: int) -> int:
    """Resident memory of one process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def open_files(pid: int) -> tuple[int, int]:
    """Descriptors of one process, and how many of them are sockets."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            pass  # closed at this moment
    return len(found), sum(name.startswith("socket:") for name in found)


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def no_surprises(workers: Sequence[Process] | Iterable[Process]) -> None:
    """Nothing that nobody meant to say is in the logs."""
    for worker in workers:
        output = worker.output()
        for word in ("Traceback", "Unrecoverable", "never awaited"):
            assert word not in output, output[-3000:]


@pytest.fixture
def fleet(request: pytest.FixtureRequest, processes: Processes, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet at the broker named by the parameter, redis without one."""
    kind = getattr(request, "param", "redis")
    made = Fleet(request.getfixturevalue(f"{kind}_url"), processes, tmp_path)
    yield made
    made.close()
