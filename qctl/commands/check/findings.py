"""What `qctl check` finds, and what differs from Celery by name.

In:  differences.json, which `python -m qctl.manual` makes from Celery's inventory.  Out: Findings.
Before this: the files of this folder that look for differences.  After this: command.py.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

ERROR, DIFFERENT, NOTE = "error", "different", "note"
LEVELS = (ERROR, DIFFERENT, NOTE)

#: the rows of Celery's inventory that are not the same
TABLE = Path(__file__).with_name("differences.json")
LEFT_OUT = "left out"


class Finding(NamedTuple):
    """One difference. line: None when it is about the whole file; fix: what to do, empty when nothing is."""

    level: str
    file: str
    line: int | None
    name: str
    what: str
    fix: str = ""

    @property
    def place(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Difference(NamedTuple):
    """A row of the inventory: its status there, and its note."""

    status: str
    note: str


@cache
def differences(area: str) -> dict[str, Difference]:
    """The rows of an area of the inventory that are not the same, by name."""
    rows = json.loads(TABLE.read_text(encoding="utf-8")).get(area, {})
    return {name: Difference(*row) for name, row in rows.items()}


def module_note(module: str, name: str) -> Difference | None:
    """What the inventory says of a name of a module of Celery."""
    return differences(f"module.{module}").get(name)
