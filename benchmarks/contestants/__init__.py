"""What is compared. Both run the same task on the same queue of the same server.

Each file here defines `app`, `noop` (a task that does nothing), and `send_all(n)`. This one has the
command lines, so that the measuring process needs neither library.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

QUEUE = "bench"
#: where a queue is filled before the go signal: nobody consumes from it
WAITING = "bench.waiting"
SIDES = ("qcore", "celery")

_CELERY = ("-m", "celery", "-A", "benchmarks.contestants.celery", "worker", "--without-gossip")
_WORKER = {
    "qcore": ("-m", "qctl", "-A", "benchmarks.contestants.qcore", "worker"),
    "celery": (*_CELERY, "--without-mingle", "--without-heartbeat"),
}
_TOOL = {"qcore": "qctl", "celery": "celery"}


def url() -> str:
    """The private server; the parent puts it into the environment."""
    return os.environ["BENCH_URL"]


def environment(server: str) -> dict[str, str]:
    return {"BENCH_URL": server}


def worker(side: str, node: str, concurrency: int) -> list[str]:
    """The command line of a prefork worker."""
    options = ("-P", "prefork", "-c", str(concurrency), "-Q", QUEUE, "-n", f"{node}@bench", "-l", "WARNING")
    return [sys.executable, *_WORKER[side], *options]


def tool(side: str, server: str, *words: str) -> list[str]:
    """The command line of an operator's command that knows the broker only."""
    return [sys.executable, "-m", _TOOL[side], "-b", server, *words]


def load(side: str) -> Any:
    """The contestant's module."""
    return importlib.import_module(f"benchmarks.contestants.{side}")
