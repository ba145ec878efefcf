"""A service of the worker: it writes to the file DIARY when the worker starts and stops."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class Diary:
    """start() is called before the first task, stop() after the last one."""

    after = ("lease",)

    def __init__(self, worker: Any) -> None:
        self.node = worker.node
        self.file = Path(os.environ["DIARY"])

    def start(self) -> None:
        self._write(f"{self.node} starts")

    def stop(self) -> None:
        self._write(f"{self.node} stops")

    def _write(self, line: str) -> None:
        with self.file.open("a") as file:
            file.write(f"{line}\n")
