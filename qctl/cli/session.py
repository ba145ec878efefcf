"""The session of a command: the app, its broker and the output, each created on first use.

In:  the global options, and the values that configuration/ adds.  Out: an App (that of -A, or one without
tasks for the effective broker) and an Output.  Before this: global_options.py filled the options.
After this: qctl/commands/*.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qctl import exit_codes
from qctl.options import Globals

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.brokers.base import Broker
    from qctl.configuration.contexts import Context
    from qctl.configuration.layers import Layers
    from qctl.output.writer import Output

#: time-out for connecting to the broker, seconds
CONNECT_S = 1.5
_LOADING = threading.Lock()


class Session:
    """One run of qctl."""

    def __init__(self) -> None:
        self.options = Globals()
        #: True for long-running commands: they use the app's own connection time-out
        self.patient = False
        #: True when a program runs the command with its app (`App.worker_main`)
        self.is_embedded = False
        #: called with the app when it has been loaded
        self.after_load: Callable[[App], None] | None = None
        #: the words of the command line
        self.argv: list[str] = []
        self._layers: Layers | None = None

    @cached_property
    def out(self) -> Output:
        from qctl.output.writer import Output

        return Output(self.options)

    def _warn(self, text: str) -> None:
        self.out.warn(text)

    # --- what counts

    @property
    def layers(self) -> Layers:
        """All sources of option values. Raises CommandError for an error in a file."""
        if self._layers is None:
            from qctl.configuration.layers import gather

            start = Path(self.options.workdir or ".").absolute()
            self._layers = gather(self.options.given, start, self._warn)
        return self._layers

    @property
    def context(self) -> Context | None:
        """The effective context; None without one."""
        return self.layers.context

    @property
    def is_read_only(self) -> bool:
        return bool(self.layers.value("read_only"))

    def settle(self) -> None:
        """Set the options to their effective values. A second call changes nothing."""
        if self._layers is not None:
            return
        from qcore.errors import keep_secret
        from qctl.configuration.addresses import is_reference, resolve

        options, layers = self.options, self.layers
        options.timeout = self._timeout(layers)
        for name in ("output", "app", "broker", "result_backend"):
            value, source = str(layers.value(name) or ""), layers.source(name)
            if is_reference(value) and name in ("broker", "result_backend"):
                setattr(options, name, resolve(value, self._warn))
            elif value and source not in ("environment", "built in"):  # already set
                setattr(options, name, value)
            if name in ("broker", "result_backend"):
                keep_secret(getattr(options, name) or value)

    def _timeout(self, layers: Layers) -> float | None:
        value = layers.value("timeout")
        if not isinstance(value, str):
            return self.options.timeout if value is None else float(value)
        from qcore.base.times import span_s

        try:
            return span_s(value)
        except ValueError as exc:
            raise exit_codes.CommandError(
                exit_codes.BAD_CONFIG, f"the timeout ({layers.source('timeout')}): {exc}"
            ) from None

    def without_layers(self) -> None:
        """Use only the current option values, without files and environment: a program runs the command."""
        from qctl.configuration.layers import Layers

        self._layers = Layers()

    def in_context(self, name: str) -> Session:
        """A separate session for another context, with the other options of this command line."""
        other = Session()
        kept = {k: v for k, v in self.options.given.items() if k not in ("broker", "result_backend")}
        other.options.given = {**kept, "context": name}
        other.options.quiet, other.options.no_color = self.options.quiet, self.options.no_color
        other.settle()
        return other

    @cached_property
    def app(self) -> App:
        """The app of -A, or one without tasks that has only a broker."""
        self.settle()
        if self.options.workdir:
            _enter(self.options.workdir)
        if self.options.app:
            from qcore.app.loader import find_app
            from qcore.celery.install import install

            install()  # `from celery import Celery` in the project is qcore's
            # A module's prints must not mix into the answer. Under a lock, since stdout is shared by threads.
            with _LOADING, redirect_stdout(sys.stderr):
                app = find_app(self.options.app)
        elif _configured():
            from qcore.celery.app import default_app
            from qcore.celery.install import install

            install()
            with _LOADING, redirect_stdout(sys.stderr):
                app = default_app()
        else:
            from qcore.app.app import App

            app = App("qctl")
        given = {"broker_url": self.options.broker, "result_backend": self.options.result_backend}
        for setting, value in given.items():
            if value is not None:
                app.conf.override(setting, value)
        if self.options.broker is not None:  # the command line names the broker of every process
            app.conf.override("broker_read_url", None)
            app.conf.override("broker_write_url", None)
        if not self.patient:
            usual = app.conf.broker_connection_timeout
            app.conf["broker_connection_timeout"] = min(float(usual or CONNECT_S), CONNECT_S)
        if self.after_load is not None:
            self.after_load(app)
        return app

    @property
    def only_broker_url(self) -> str | None:
        """The broker's URL if the app is nothing else and can be made later; None: the app decides."""
        self.settle()
        is_made = "app" in self.__dict__
        return None if is_made or self.options.app or _configured() else self.options.broker

    @property
    def broker(self) -> Broker:
        return self.app.broker

    def needs_app(self, what: str) -> None:
        """Raises CommandError without -A, unless --config or --loader make an app."""
        if not self.options.app and not _configured():
            raise exit_codes.CommandError(
                exit_codes.USAGE,
                f"{what} needs an app: give -A module",
                "or set QCTL_APP, or try `qctl demo`",
            )

    def close(self) -> None:
        """Close the app and flush stdout."""
        app = self.__dict__.get("app")
        if app is not None:
            app.close()
        sys.stdout.flush()


def _configured() -> bool:
    """Whether a configuration module or a loader is named, which make an app without -A, as in Celery."""
    return any(os.environ.get(name) for name in ("CELERY_CONFIG_MODULE", "CELERY_LOADER"))


def _enter(workdir: str) -> None:
    try:
        os.chdir(workdir)
    except OSError as exc:
        raise exit_codes.CommandError(
            exit_codes.USAGE, f"cannot work in '{workdir}': {exc.strerror}"
        ) from None


def session_of(ctx: click.Context) -> Session:
    """The session of this run; made on first use."""
    root = ctx.find_root()
    if not isinstance(root.obj, Session):
        root.obj = Session()
    session: Session = root.obj
    return session


def current() -> Session:
    """The session of the running command."""
    return session_of(click.get_current_context())
