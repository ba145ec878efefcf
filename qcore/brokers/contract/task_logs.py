"""The part of the broker contract that stores task logs, for drivers with features.lines.

In:  lines of JSON by task id.  Out: the newest lines of a task, oldest first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qcore.errors import Unsupported

#: number of tasks whose lines are kept; the tasks that logged longest ago are deleted first
TASKS = 2_000
KEPT_S = 86_400


class TaskLogs:
    """The log lines of tasks, by task id."""

    def __init__(self, driver: str) -> None:
        """driver: the name of the driver, for the messages of Unsupported."""
        self._driver = driver

    def append(self, lines: Mapping[str, Sequence[bytes]], most: int) -> None:
        """Append log lines to tasks. Each keeps its newest `most` lines, for KEPT_S after the last one."""
        raise Unsupported(self._driver, "keep what tasks log")

    def of(self, task_id: str) -> list[bytes]:
        """The lines of a task, oldest first, byte for byte."""
        raise Unsupported(self._driver, "keep what tasks log")
