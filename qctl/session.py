"""What a command needs: the app, its broker and the output, each made when first asked for.

In:  the global options.  Out: an App (-A, or one without tasks at -b, QCTL_BROKER_URL or sqlite://)
and an Output.  Before this: params.py filled the options.  After this: qctl/commands/*.
"""

from __future__ import annotations

import os
import sys
from functools import cached_property
from typing import TYPE_CHECKING

import click

from qctl import exits
from qctl.options import Globals
from qctl.output.writer import Output

if TYPE_CHECKING:
    from qcore.app import App
    from qcore.brokers.base import Broker

#: how long a command may take to reach the broker
CONNECT_S = 1.5


class Session:
    """One run of qctl."""

    def __init__(self) -> None:
        self.options = Globals()
        #: a process that runs for hours waits longer for its broker than a command that is over soon
        self.patient = False

    @cached_property
    def out(self) -> Output:
        return Output(self.options)

    @cached_property
    def app(self) -> App:
        """The app of -A, or one without tasks that only knows a broker."""
        if self.options.workdir:
            _enter(self.options.workdir)
        if self.options.app:
            from qcore.loader import find_app

            app = find_app(self.options.app)
        else:
            from qcore.app import App

            app = App("qctl")
        given = {"broker_url": self.options.broker, "result_backend": self.options.result_backend}
        for setting, value in given.items():
            if value is not None:
                app.conf.override(setting, value)
        if not self.patient:
            usual = app.conf.broker_connection_timeout
            app.conf["broker_connection_timeout"] = min(float(usual or CONNECT_S), CONNECT_S)
        return app

    @property
    def broker(self) -> Broker:
        return self.app.broker

    def needs_app(self, what: str) -> None:
        """Refuse to go on without -A."""
        if not self.options.app:
            raise exits.Stop(
                exits.USAGE, f"{what} needs an app: give -A module", "or set QCTL_APP, or try `qctl demo`"
            )

    def close(self) -> None:
        """Close what was opened."""
        app = self.__dict__.get("app")
        if app is not None:
            app.close()
        sys.stdout.flush()


def _enter(workdir: str) -> None:
    try:
        os.chdir(workdir)
    except OSError as exc:
        raise exits.Stop(exits.USAGE, f"cannot work in '{workdir}': {exc.strerror}") from None


def session_of(ctx: click.Context) -> Session:
    """The session of this run; made on first use."""
    root = ctx.find_root()
    if not isinstance(root.obj, Session):
        root.obj = Session()
    session: Session = root.obj
    return session


def current() -> Session:
    """The session of the command that is being run."""
    return session_of(click.get_current_context())
