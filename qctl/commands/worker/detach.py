"""Run a process in the background, as another user, and with another Python.

In:  -D, --uid, --gid, --umask, --executable.  Out: the process that continues: without a terminal, as that
user; or the command started again.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.base.private_files import open_to_append
from qctl import exit_codes

if TYPE_CHECKING:
    from qctl.cli.session import Session

#: options that settings may give, with the program's name before them: worker_logfile, beat_uid, …
OF_SETTINGS = ("logfile", "pidfile", "uid", "gid", "umask")


#: set for the command that run_with() starts: the Python that runs it, which may be a script
DONE = "_QCTL_EXECUTABLE"


def from_settings(conf: Mapping[str, Any], program: str, given: Mapping[str, Any]) -> dict[str, str | None]:
    """Those of `given` that are in OF_SETTINGS; where one is None the value of its setting."""
    found: dict[str, str | None] = {}
    for option in OF_SETTINGS:
        value = given[option]
        if value is None:
            value = conf[f"{program}_{option}"]
            if isinstance(value, int):
                value = f"{value:o}" if option == "umask" else str(value)
        found[option] = value
    return found


class Identity(NamedTuple):
    """The user, group and umask of the process; None keeps the current one."""

    uid: str | None
    gid: str | None
    umask: str | None

    def take(self) -> None:
        """Change user, group and umask. Raises CommandError for an unknown user or without permission."""
        if self.umask is not None:
            try:
                os.umask(int(self.umask, 8))
            except ValueError:
                raise exit_codes.CommandError(
                    exit_codes.USAGE, f"--umask is an octal number such as 022, not '{self.umask}'"
                ) from None
        if self.uid is None and self.gid is None:
            return
        user = _user(self.uid) if self.uid is not None else None
        group = _group(self.gid) if self.gid is not None else user.pw_gid if user else os.getgid()
        try:
            # The groups first: without root they cannot be changed any more.
            if user is not None and self.gid is None:
                os.initgroups(user.pw_name, group)
            else:
                os.setgroups([group])
            os.setgid(group)
            if user is not None:
                os.setuid(user.pw_uid)
        except PermissionError:
            raise exit_codes.CommandError(
                exit_codes.USAGE, "only root may become another user; leave out --uid and --gid"
            ) from None


def run_with(executable: str, session: Session) -> None:
    """Replace this process by the same command, run by another Python. Does nothing when that Python runs
    already; raises CommandError when it cannot be run."""
    import shutil  # each worker imports this file

    found = shutil.which(executable)
    if found is None:
        raise exit_codes.CommandError(exit_codes.USAGE, f"there is no program '{executable}' (--executable)")
    # By path: the Pythons of two environments may be links to one file.
    if Path(found).absolute() == Path(sys.executable).absolute() or os.environ.pop(DONE, ""):
        return
    if session.is_embedded:
        raise exit_codes.CommandError(
            exit_codes.USAGE, "--executable starts the command again, so it needs an app that -A can name"
        )
    for variable in [v for v in os.environ if v.startswith("CELERY_") and v.endswith("_EXECUTABLE")]:
        del os.environ[variable]
    words = without_option(session.argv, "--executable")
    try:
        os.environ[DONE] = found
        os.execv(found, [found, "-m", "qctl", *words])
    except OSError as exc:
        raise exit_codes.CommandError(
            exit_codes.USAGE, f"cannot run '{executable}' (--executable): {exc.strerror}"
        ) from None


def without_option(words: list[str], option: str) -> list[str]:
    """The words without `option VALUE` and `option=VALUE`."""
    left: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*left, word, *rest]
        if word == option:
            next(rest, None)
        elif not word.startswith(f"{option}="):
            left.append(word)
    return left


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        raise exit_codes.CommandError(exit_codes.USAGE, f"there is no user '{name}' (--uid)") from None


def _group(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise exit_codes.CommandError(exit_codes.USAGE, f"there is no group '{name}' (--gid)") from None


def to_background(options: Mapping[str, Any], what: str = "a worker") -> bool:
    """Fork and continue in a child without a terminal: True in the child, False in the parent. The child's
    output goes to the log file, without one to /dev/null. With C_FAKEFORK in the environment this process
    continues. Raises CommandError if the file cannot be written."""
    log = Path(options.get("logfile") or os.devnull)
    try:
        out = open_to_append(log, 0o644)
    except OSError as exc:
        raise exit_codes.CommandError(
            exit_codes.USAGE, f"cannot write the log file '{log}': {exc.strerror}"
        ) from None
    sys.stdout.flush()
    sys.stderr.flush()
    is_fake = bool(os.environ.get("C_FAKEFORK"))  # as in Celery, for tests of what starts workers
    if not is_fake and (pid := os.fork()) != 0:
        os.close(out)
        print(f"{what} starts in the background (pid {pid}); its log is {log}", file=sys.stderr)
        return False
    if not is_fake:
        os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, theirs in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(ours, theirs)
    os.close(nothing)
    os.close(out)
    return True
