"""How long an operator waits: commands that ask three workers, a call, and help; wall time of each.

Each tool asks workers of its own kind. Starting the interpreter is part of what is waited for; both tools
find their modules compiled, as installed ones do. Help is compared with an interpreter that only imports
click, in turn.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.arena import ROOT, Arena
from benchmarks.lineup import OURS, Side
from benchmarks.sizes import QUICK, Sizes
from tests.support.processes import Processes

SECONDS = 20.0
WORKERS = 3
START_S = 120.0
#: so often, and the median: a single start of an interpreter says little
TIMES = 5
COMMANDS = {
    "status": ("status",),
    "ping": ("inspect", "ping"),
    "active": ("inspect", "active"),
    "call": ("call", "bench.noop"),
}
#: where compiled modules are kept between the starts
_COMPILED = tempfile.TemporaryDirectory(prefix="bench-compiled-")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class NotAllAnswered(Exception):
    """A command that did not see all workers; how long it took means nothing."""


def takes(side: Side) -> bool:
    return side.is_both


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Seconds for each command. Raises NotAllAnswered."""
    times = 1 if sizes.tasks == QUICK.tasks else TIMES
    arena.empty()
    (command,) = arena.commands(side, 1)
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        processes = Processes(Path(folder))
        try:
            for number in range(WORKERS):
                arena.start(side, processes, [[w.replace("one@", f"w{number}@") for w in command]])
            _wait_for_fleet(arena, side)
            found = {
                name: statistics.median([took(arena, side, *words) for _ in range(times + 1)][1:])
                for name, words in COMMANDS.items()
            }
        finally:
            processes.close()
    return {**found, **(_help(arena, side, 2 * times) if side.name == OURS else {})}


def _wait_for_fleet(arena: Arena, side: Side) -> None:
    """Until one command sees all workers; it is not counted."""
    until = time.monotonic() + START_S
    while True:
        try:
            took(arena, side, *COMMANDS["ping"])
            return
        except NotAllAnswered:
            if time.monotonic() > until:
                raise


def took(arena: Arena, side: Side, *words: str) -> float:
    """Seconds for one command, which has to see every worker, or to print the id of the task."""
    tool = "qctl" if side.name == OURS else "celery"
    if tool == "qctl" and words == COMMANDS["active"]:
        words = (*words, "-o", "json")  # its table has no line for a worker that runs nothing
    if tool == "qctl" and words[0] != "call":
        words = (*words, "-t", "10")  # for a busy machine: it ends with the last answer in any case
    seconds, out, err = _run(arena, side, "-m", tool, "-b", arena.redis.url, *words)
    seen = set(re.findall(r"[\w-]+@bench", out))
    if len(seen) != WORKERS and not (words[0] == "call" and _ID.search(out)):
        raise NotAllAnswered(f"{side.name} {' '.join(words)} saw {sorted(seen)}: {out}{err}")
    return seconds


def _help(arena: Arena, side: Side, times: int) -> dict[str, float]:
    helps, clicks = [], []
    for _ in range(times + 1):
        helps.append(_run(arena, side, "-m", "qctl", "--help")[0])
        clicks.append(_run(arena, side, "-c", "import click")[0])
    return {"help": statistics.median(helps[1:]), "import_click": statistics.median(clicks[1:])}


def _run(arena: Arena, side: Side, *words: str) -> tuple[float, str, str]:
    """Seconds, stdout and stderr of an interpreter with these words."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": _COMPILED.name}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.perf_counter()
    done = subprocess.run([arena.python(side), *words], capture_output=True, text=True, check=False, env=env)
    return time.perf_counter() - begin, done.stdout, done.stderr
