"""The part of the broker contract that keeps what tasks log, for drivers with features.lines.

In:  lines of JSON by task id.  Out: the newest ones of a task, in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from qcore.errors import Unsupported

#: tasks whose lines are kept; those that logged longest ago go first
TASKS = 2_000
KEPT_S = 86_400


class Lines:
    """What tasks log."""

    name: ClassVar[str]

    def keep_lines(self, lines: Mapping[str, Sequence[bytes]], most: int) -> None:
        """Add lines of tasks; of each task the newest `most` stay, for KEPT_S after the last."""
        raise Unsupported(self.name, "keep what tasks log")

    def lines_of(self, task_id: str) -> list[bytes]:
        """The lines of a task, the oldest first, byte for byte."""
        raise Unsupported(self.name, "keep what tasks log")
