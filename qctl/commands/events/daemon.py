"""`qctl events` with a camera or --record as a daemon.

In:  -D, -l, -f, --pidfile, --uid, --gid, --umask.  Out: the process that continues, with a log and
a pid file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from qctl import exit_codes
from qctl.commands.worker.detach import Identity, from_settings, run_with, to_background

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
        """A block in which the process is what the options say, and the settings events_…; False: another
        process continues. Raises CommandError and ConfigError."""
        from qcore.worker.process import log_setup
        from qcore.worker.process.pidfile import PidFile

        app = session.app  # what is wrong with it is said in the terminal
        if app.conf.events_executable:
            run_with(app.conf.events_executable, session)
        given = {"logfile": self.logfile, "pidfile": self.pidfile, **self.identity._asdict()}
        settled = from_settings(app.conf, "events", given)
        if not self.is_wanted and not any(settled.values()):
            yield True
            return
        if self.detach and not to_background(settled, "the recorder of events"):
            yield False
            return
        Identity(settled["uid"], settled["gid"], settled["umask"]).take()
        log_setup.set_up(app.conf, self.loglevel or "WARNING", settled["logfile"])
        with PidFile(settled["pidfile"]), exit_codes.sigterm_like_ctrl_c():
            yield True
