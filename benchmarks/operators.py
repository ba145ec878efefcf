"""How long an operator waits: `status` and `inspect ping` with three workers, wall time of the command.

Each tool asks workers of its own kind. Starting the interpreter is part of what is waited for.
"""

from __future__ import annotations

import subprocess
import time

from benchmarks.contestants import tool

WORKERS = 3
COMMANDS = {"status": ("status",), "ping": ("inspect", "ping")}


class NotAllAnswered(Exception):
    """A command that did not see all workers; how long it took means nothing."""


def measure(side: str, server: str) -> dict[str, float]:
    """Seconds for each command. Raises NotAllAnswered."""
    return {name: took(side, server, *words) for name, words in COMMANDS.items()}


def took(side: str, server: str, *words: str) -> float:
    """Seconds for one command, which has to see every worker."""
    begin = time.perf_counter()
    done = subprocess.run(tool(side, server, *words), capture_output=True, text=True, check=False)
    found = time.perf_counter() - begin
    seen = {word for word in done.stdout.replace(":", " ").split() if word.endswith("@bench")}
    if len(seen) != WORKERS:
        raise NotAllAnswered(f"{side} {' '.join(words)} saw {sorted(seen)}: {done.stdout}{done.stderr}")
    return found
