"""What is compared: one file per contestant, all with the same contract.

A contestant's file is imported in the contestant's own environment only, by its workers and by
client.py. It reads from the environment what the run is about (the functions below), so that the
measuring process needs none of the libraries; it asks `client.py NAME describe`.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Protocol

QUEUE = "bench"
#: where nobody consumes: for publishing only
WAITING = "bench.waiting"


class Contestant(Protocol):
    """A module that can be measured. Handles are texts that name a task's result.

    A module that has more can do more: `send_bulk(n)`; `send_tuples(n)`, many
    calls of one task with the same options; `fill(n)` when send() is not the fastest way to
    fill a queue; `send_due(due)`, `send_later(dues)` and `send_naps(n)` with `answers(handles)`: by how
    many seconds a task started after that time, or when it started; `ready()`; `group`, `chord`, `chain`.
    One whose calls are made by another process has `spent()`, the seconds and the CPU seconds of its
    calls since it was last asked, and `versions()`.
    """

    SETTINGS: str  # a sentence for the report
    PACKAGES: tuple[str, ...]  # whose versions are in the report
    TASKS: int  # how many make a drain of one to three seconds

    def workers(self, children: int) -> list[list[str]]:
        """What follows the interpreter in each command that starts a worker."""

    def send(self, n: int) -> list[str]:
        """Queue n tasks that do nothing, one call at a time, on the queue of the environment."""

    def trip(self) -> None:
        """Queue one task and wait for its result; raises when it has none within a minute."""

    def stored(self, handles: list[str]) -> int:
        """How many of these have a stored success."""

    def kept(self) -> int:
        """How many results the store has in all."""

    def left(self) -> int:
        """Tasks that are queued or, where the contestant can tell, in flight."""


def url() -> str:
    """The private server, or the SQLite file."""
    return os.environ["BENCH_URL"]


def queue() -> str:
    """Where tasks are sent: QUEUE, or a queue that nobody consumes."""
    return os.environ.get("BENCH_QUEUE", QUEUE)


def node() -> str:
    """The name of the worker."""
    return os.environ.get("BENCH_NODE", "one@bench")


def keeps_results() -> bool:
    return os.environ.get("BENCH_RESULTS", "on") == "on"


def sends_events() -> bool:
    return os.environ.get("BENCH_EVENTS") == "on"


def figure() -> str:
    """The name of the figure that is measured."""
    return os.environ.get("BENCH_FIGURE", "")


def kind() -> str:
    """Which variant, for files that have several: `prefork` or `threads`."""
    return os.environ.get("BENCH_KIND", "")


def load(module: str) -> Any:
    """The contestant of that file name."""
    return importlib.import_module(f"benchmarks.contestants.{module}")
