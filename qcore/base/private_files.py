"""Files and folders that are the user's alone: made so whatever the umask says, and read only when they are.

In:  paths.  Out: descriptors, texts.  Raises NotPrivate when somebody else could have put the file there.
Everything that is kept on disk for one user goes through here: state, pid files, recordings, databases.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from qcore.errors import ConfigError

FILE, FOLDER = 0o600, 0o700
_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NotPrivate(ConfigError):
    """The file or folder at `path` could have been written by somebody else."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(str(path), why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"'{self.path}' {self.why}; use a folder that only you can write to"


def make_folder(path: Path) -> None:
    """Make the folder and the missing ones above it, each for the user alone. Raises OSError."""
    if path.is_dir():
        return
    make_folder(path.parent)
    try:
        path.mkdir(mode=FOLDER)
    except FileExistsError:
        if not path.is_dir():
            raise


def create(path: str | Path, flags: int = os.O_WRONLY) -> int:
    """A descriptor of a file that was not there before. Raises OSError, FileExistsError among them; what a
    link leads to is not created."""
    made = os.open(path, flags | _NEW, FILE)
    os.fchmod(made, FILE)  # a umask can only take away from it what its owner needs
    return made


def open_to_append(path: Path, mode: int = FILE) -> int:
    """A descriptor to append to the file, which is made with `mode` when it is not there. A link is
    followed only when it is ours or root's. Raises OSError, NotPrivate."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        found = path.lstat()
    except FileNotFoundError:
        return os.open(path, flags | os.O_NOFOLLOW, mode)
    if not stat.S_ISLNK(found.st_mode):
        return os.open(path, flags | os.O_NOFOLLOW, mode)
    if found.st_uid not in (0, os.geteuid()):
        raise NotPrivate(path, "is a link that another user made")
    return os.open(path, flags, mode)


def replace(path: Path, data: bytes) -> None:
    """Write the file in one step; a link in its place is replaced, not followed. Raises OSError."""
    make_folder(path.parent)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = create(fresh)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def read(path: Path, most: int = 1 << 20) -> tuple[bytes, int]:
    """The first `most` bytes of a file that only its owner could have written, and the owner's user id.

    Raises NotPrivate for a file of another user than us, when we are not root, for one that others may
    write, and for one in a folder where others may put files; OSError, FileNotFoundError among them.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotPrivate(path, "is no file")
        if os.geteuid() not in (0, found.st_uid):
            raise NotPrivate(path, "belongs to another user")
        if _others_write(found):
            raise NotPrivate(path, "can be written by other users")
        folder = path.absolute().parent
        above = folder.stat()
        # In a sticky folder such as /tmp nobody replaces a file of ours.
        if _others_write(above) and not above.st_mode & stat.S_ISVTX:
            raise NotPrivate(folder, "is a folder that other users can write to")
        return os.read(descriptor, most), found.st_uid
    finally:
        os.close(descriptor)


def _others_write(found: os.stat_result) -> bool:
    """Whether somebody else may write it; one's own group counts as oneself, as user-private groups mean."""
    mode = found.st_mode
    return bool(mode & stat.S_IWOTH or (mode & stat.S_IWGRP and found.st_gid != os.getegid()))
