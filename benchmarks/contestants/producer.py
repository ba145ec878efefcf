"""The calls of a contestant that is not Python's: a script of its own language, asked line by line.

In:  `WORD N` on the script's standard input.  Out: one line of JSON: the answer with `wall_s` and `cpu_s`,
the seconds that it took inside the script, so that no figure includes the pipe; or `error`. The script ends
with its input.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Producer:
    """The process is started with the first question."""

    def __init__(self, script: str) -> None:
        self.script = str(HERE / script)
        self._process: subprocess.Popen[str] | None = None
        self._wall_s = self._cpu_s = 0.0

    def ask(self, word: str, n: int = 0) -> dict[str, Any]:
        """Raises RuntimeError with what the script said when it failed or ended."""
        if self._process is None:
            self._process = subprocess.Popen(
                [os.environ["BENCH_PROGRAM"], self.script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            atexit.register(self.end)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{word} {n}\n")
        self._process.stdin.flush()
        answer = read(self._process.stdout, self.script)
        self._wall_s += answer.pop("wall_s")
        self._cpu_s += answer.pop("cpu_s")
        return answer

    def spent(self) -> tuple[float, float]:
        """Seconds and CPU seconds since the last call of this."""
        found = self._wall_s, self._cpu_s
        self._wall_s = self._cpu_s = 0.0
        return found

    def end(self) -> None:
        """Close its input, with which the script ends."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


def read(lines: Iterable[str], script: str) -> dict[str, Any]:
    """The next answer of a script; what else it prints is passed over. Raises RuntimeError."""
    for line in lines:
        if not line.startswith("{"):
            continue
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{script}: {answer['error']}")
        return answer
    raise RuntimeError(f"{script} has ended without an answer")
