"""The calls of a contestant that is not Python's: a script of its own language, asked line by line.

In:  `WORD N` on the script's standard input.  Out: one line of JSON: the answer with `wall_s` and `cpu_s`,
the seconds that it took inside the script, so that no figure includes the pipe; or `error`. The script ends
with its input.
"""

from __future__ import annotations

import json
import os
import subprocess
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
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{word} {n}\n")
        self._process.stdin.flush()
        answer = read(self._process.stdout.readline(), self.script)
        self._wall_s += answer.pop("wall_s")
        self._cpu_s += answer.pop("cpu_s")
        return answer

    def spent(self) -> tuple[float, float]:
        """Seconds and CPU seconds since the last call of this."""
        found = self._wall_s, self._cpu_s
        self._wall_s = self._cpu_s = 0.0
        return found


def read(line: str, script: str) -> dict[str, Any]:
    """An answer of a script. Raises RuntimeError for an error, and for none."""
    if not line:
        raise RuntimeError(f"{script} has ended")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise RuntimeError(f"{script}: {answer['error']}")
    return answer
