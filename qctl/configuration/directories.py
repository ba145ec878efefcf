"""The user's directories, and files in them that only the user can read."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path


def config_dir() -> Path:
    """QCTL_CONFIG, or qctl's directory in the user's configuration directory."""
    given = os.environ.get("QCTL_CONFIG")
    return Path(given) if given else _user_dir("XDG_CONFIG_HOME", ".config", "user_config_dir")


def state_dir() -> Path:
    """The directory of qctl's state: audit log, task history."""
    return _user_dir("XDG_STATE_HOME", ".local/state", "user_state_dir")


def _user_dir(variable: str, usual: str, name: str) -> Path:
    if sys.platform == "darwin":
        import platformdirs  # its import takes longer than all of `qctl --help`

        return Path(getattr(platformdirs, name)("qctl"))
    base = os.environ.get(variable, "")
    return (Path(base) if base.startswith("/") else Path.home() / usual) / "qctl"


def write_private(path: Path, text: str) -> None:
    """Write a file in one step, readable for the user only (mode 0600, directory 0700)."""
    from qcore.base.private_files import replace

    replace(path, text.encode())


def others_can_read(path: Path) -> bool:
    """Whether the file's group or others may read it."""
    try:
        return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


def is_ours(path: Path) -> bool:
    """Whether the user or root owns the file, and others may not write it."""
    found = path.stat()
    return found.st_uid in (os.geteuid(), 0) and not found.st_mode & stat.S_IWOTH
