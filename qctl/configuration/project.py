"""The project's file: qctl.toml, or [tool.qctl] of pyproject.toml, here or in a directory above.

A file that another user owns, or that others may write, is ignored with a warning: it could name an app,
and an app is code.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qctl.configuration import tables
from qctl.configuration.directories import is_ours


def load(start: Path, warn: Callable[[str], None] = lambda words: None) -> tuple[Path, dict[str, Any]] | None:
    """The nearest file and its values; None without one. Raises CommandError for an error in it."""
    for directory in (start, *start.parents):
        for name in ("qctl.toml", "pyproject.toml"):
            path = directory / name
            if not path.is_file() or (name == "pyproject.toml" and not _has_section(path)):
                continue
            if not is_ours(path):
                warn(f"warning: {path} is not used: another user owns it, or other users can write to it")
                continue
            return path, _values(path)
    return None


def _has_section(path: Path) -> bool:
    """Whether the file may have a [tool.qctl] table; most pyproject.toml have none."""
    try:
        return b"tool.qctl" in path.read_bytes()
    except OSError:
        return False


def _values(path: Path) -> dict[str, Any]:
    found = tables.read(path)
    if path.name == "qctl.toml":
        return tables.check(path, found, tables.DEFAULTS)
    return tables.check(path, found.get("tool", {}).get("qctl", {}), tables.DEFAULTS, "[tool.qctl]")
