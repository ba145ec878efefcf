"""Cold start: from the start of the worker's process to the result of a task that was queued before."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.arena import Arena, Invalid
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes
from tests.support.processes import Processes

SECONDS = 1.2


def takes(side: Side) -> bool:
    return not side.figures or "cold" in side.figures


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Seconds. Raises Invalid."""
    arena.empty()
    env = {"BENCH_FIGURE": "cold"}
    commands = arena.commands(side, **env)
    talk = arena.talk(side, "drain", 1, "on", 0, **env)
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        processes = Processes(Path(folder))
        try:
            talk.hear()
            talk.go()
            begin = time.monotonic()
            fleet = arena.start(side, processes, commands, **env)
            took = talk.hear()["ended"] - begin
            if not fleet.pids():
                raise Invalid(f"{side.name}: the worker has ended")
        finally:
            talk.end()
            processes.close()
    return {"cold": took}
