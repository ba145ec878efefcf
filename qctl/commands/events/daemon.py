"""`qctl events` with a camera or --record as a daemon.

In:  -D, -l, -f, --pidfile, --uid, --gid, --umask.  Out: the process that continues, with a log and
a pid file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from qctl import exit_codes
from qctl.commands.worker.detach import Identity, to_background

if TYPE_CHECKING:
    from qctl.cli.session import Session


class Daemon(NamedTuple):
    """The options of a background process."""

    detach: bool
    loglevel: str | None
    logfile: str | None
    pidfile: str | None
    identity: Identity

    @property
    def is_wanted(self) -> bool:
        return self != Daemon(False, None, None, None, Identity(None, None, None))

    @contextmanager
    def started(self, session: Session) -> Iterator[bool]:
        """A block in which the process is what the options say; False: another process continues. Raises
        CommandError and ConfigError."""
        if not self.is_wanted:
            yield True
            return
        from qcore.worker.process import log_setup
        from qcore.worker.process.pidfile import PidFile

        app = session.app  # what is wrong with it is said in the terminal
        if self.detach and not to_background({"logfile": self.logfile}, "the recorder of events"):
            yield False
            return
        self.identity.take()
        log_setup.set_up(app.conf, self.loglevel or "WARNING", self.logfile)
        with PidFile(self.pidfile), exit_codes.sigterm_like_ctrl_c():
            yield True
