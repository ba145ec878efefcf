"""A history of tasks in a file: events taken in a second, and how long a search of it takes.

What `qctl task record` does with events, without a broker; three events a task, ids as clients make them.
The search is for one argument among the failed, 2 % of all; the file has been read before.
"""

from __future__ import annotations

import random
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.arena import Arena
from benchmarks.lineup import OURS, Side
from benchmarks.sizes import Sizes
from qctl.commands.task.history import History
from qctl.commands.task.record import Recorder
from qctl.filters import parse

SECONDS = 60.0
ROUNDS = 1
BATCH = 48  # events of a message, as workers send them
CLIENTS = 5000
TRIES = 5


class WrongAnswer(Exception):
    """A search that did not find what is there; how long it took means nothing."""


def takes(side: Side) -> bool:
    return side.name == OURS


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Events a second, and milliseconds of a search (the median). Raises WrongAnswer."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "history.db"
        recorder = Recorder(History(path, write=True), 1e6, 10_000_000)
        begin = time.perf_counter()
        recorder.hear()
        for batch in _batches(sizes.remembered):
            recorder.take(batch)
        recorder.close()
        took = time.perf_counter() - begin
        return {"history": 3 * sizes.remembered / took, "history_search": _search_ms(path, sizes.remembered)}


def _search_ms(path: Path, tasks: int) -> float:
    wanted = parse("kwargs.client_id=50 state:failed since:48h -name:*.noisy")
    history, times = History(path), []
    for _ in range(TRIES):
        begin = time.perf_counter()
        found, _ = history.search(wanted, None)
        times.append((time.perf_counter() - begin) * 1000)
        if len(found) != sum(n % 3 != 0 for n in range(50, tasks, CLIENTS)):
            raise WrongAnswer(f"{len(found)} found")
    history.close()
    return sorted(times)[TRIES // 2]


def _batches(tasks: int) -> Iterator[list[dict[str, Any]]]:
    chance, since = random.Random(1), time.time() - 3600
    batch: list[dict[str, Any]] = []
    for number in range(tasks):
        batch += _events(str(uuid.UUID(int=chance.getrandbits(128))), number, since + number * 0.001)
        if len(batch) >= BATCH:
            yield batch
            batch = []
    yield batch


def _events(task_id: str, number: int, at: float) -> list[dict[str, Any]]:
    about = {"uuid": task_id, "hostname": f"w{number % 40}@bench"}
    name = f"proj.{'noisy' if number % 3 == 0 else 'charge'}"
    kwargs = f"{{'client_id': {number % CLIENTS}, 'note': '{'x' * 100}'}}"
    end: dict[str, Any] = {"type": "task-succeeded", "runtime": 0.1, "result": "3"}
    if number % 50 == 0:
        end = {"type": "task-failed", "exception": "TimeoutError('slow')", "traceback": "Traceback\n" * 20}
    return [
        {"type": "task-received", "timestamp": at, "name": name, "args": "()", "kwargs": kwargs, **about},
        {"type": "task-started", "timestamp": at + 0.1, **about},
        {**end, "timestamp": at + 0.2, **about},
    ]
