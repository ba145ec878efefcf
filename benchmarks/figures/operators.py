"""How long an operator waits: `status` and `inspect ping` with three workers, wall time of the command.

Each tool asks workers of its own kind. Starting the interpreter is part of what is waited for.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.arena import ROOT, Arena
from benchmarks.lineup import OURS, Side
from benchmarks.sizes import Sizes
from tests.processes import Processes

SECONDS = 10.0
WORKERS = 3
TRIES = 10
COMMANDS = {"status": ("status",), "ping": ("inspect", "ping")}


class NotAllAnswered(Exception):
    """A command that did not see all workers; how long it took means nothing."""


def takes(side: Side) -> bool:
    return side.is_both


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Seconds for each command. Raises NotAllAnswered."""
    arena.empty()
    (command,) = arena.commands(side, 1)
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        processes = Processes(Path(folder))
        try:
            for number in range(WORKERS):
                arena.start(side, processes, [[w.replace("one@", f"w{number}@") for w in command]])
            _wait_for_fleet(arena, side)
            return {name: took(arena, side, *words) for name, words in COMMANDS.items()}
        finally:
            processes.close()


def _wait_for_fleet(arena: Arena, side: Side) -> None:
    """Until one command sees all workers; it is not counted."""
    for attempt in range(TRIES):
        try:
            took(arena, side, *COMMANDS["ping"])
            return
        except NotAllAnswered:
            if attempt == TRIES - 1:
                raise


def took(arena: Arena, side: Side, *words: str) -> float:
    """Seconds for one command, which has to see every worker."""
    tool = "qctl" if side.name == OURS else "celery"
    command = [arena.python(side), "-m", tool, "-b", arena.redis.url, *words]
    begin = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    found = time.perf_counter() - begin
    seen = {word for word in done.stdout.replace(":", " ").split() if word.endswith("@bench")}
    if len(seen) != WORKERS:
        raise NotAllAnswered(f"{side.name} {' '.join(words)} saw {sorted(seen)}: {done.stdout}{done.stderr}")
    return found
