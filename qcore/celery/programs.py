"""Celery's programs as a project starts them in its own process: app.Worker, app.WorkController, app.Beat,
evcam and maybe_patch_concurrency.

In:  the arguments of a program.  Out: a worker or scheduler that runs until it is stopped; a camera that runs
until Ctrl-C; a patched process.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qcore.base import provided
from qcore.celery.logs import mlevel
from qcore.celery.proxies import app_or_default
from qcore.celery.utilities import instantiate
from qcore.events.camera import photograph
from qcore.pools import patch_for
from qcore.worker.outage import reach
from qcore.worker.process.options import script_command
from qcore.worker.process.pidfile import PidFile
from qcore.worker.services.base import ShutdownStage
from qcore.worker.worker import Worker

log = logging.getLogger("qcore.celery")


class WorkController(Worker):
    """A worker in this process that leaves its signals alone. start() returns when stop() or terminate(), of
    another thread, or a control request has ended it; `exitcode` is then its exit code."""

    app: Any = None
    exitcode: int | None = None
    _wanted = ShutdownStage.RUNNING

    def __init__(self, app: Any = None, hostname: str | None = None, **kwargs: Any) -> None:
        """Keywords as of `qctl worker`; `app` is that of app.WorkController without another."""
        super().__init__(app or self.app, hostname=hostname, **kwargs)

    def start(self) -> None:
        """Run. Raises ConfigError, and BrokerDown when the broker is unavailable at the start."""
        ended = self.run()
        self.exitcode = ended if self.exitcode is None else self.exitcode

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """Let it finish what it runs, and end."""
        self.exitcode = exitcode if self.exitcode is None else self.exitcode
        self._end(ShutdownStage.WARM)

    def terminate(self, in_sighandler: bool = False) -> None:
        """Let it stop and return what it runs, and end."""
        self._end(ShutdownStage.COLD)

    def _end(self, stage: ShutdownStage) -> None:
        self._wanted = max(stage, self._wanted)
        if hasattr(self, "loop"):
            self.loop.stop(self._wanted)

    def _catch_signals(self) -> None:
        if self._wanted != ShutdownStage.RUNNING:  # stop() before there was a loop
            self.loop.stop(self._wanted)


class AppWorker(WorkController):
    """The same with the signals of `qctl worker`: TERM and Ctrl-C end it when its tasks have ended. Processes
    that are spawned run its script again."""

    def __init__(self, app: Any = None, hostname: str | None = None, **kwargs: Any) -> None:
        provided.setdefault("worker_command", script_command)
        super().__init__(app, hostname, **kwargs)

    def _catch_signals(self) -> None:
        Worker._catch_signals(self)
        super()._catch_signals()


class Beat:
    """`qctl beat` in this process: run() publishes the schedule of the app until Ctrl-C or SIGTERM."""

    app: Any = None

    def __init__(
        self,
        max_interval: float | None = None,
        app: Any = None,
        socket_timeout: int = 30,
        pidfile: str | None = None,
        no_color: bool | None = None,
        loglevel: Any = "WARN",
        logfile: str | None = None,
        schedule: str | None = None,
        scheduler: Any = None,
        scheduler_cls: Any = None,
        redirect_stdouts: bool | None = None,
        redirect_stdouts_level: str | None = None,
        quiet: bool = False,
        remote_control: bool | None = None,
        hostname: str | None = None,
    ) -> None:
        """max_interval: seconds; schedule: the file of a scheduler class that has one; scheduler_cls: another
        name of `scheduler`. socket_timeout, remote_control and hostname are of Celery's connections."""
        self.app = app or self.app
        either = self.app.either
        self.max_interval, self.socket_timeout, self.pidfile = max_interval, socket_timeout, pidfile
        self.no_color, self.quiet, self.hostname = no_color, quiet, hostname
        self.loglevel, self.logfile = mlevel(loglevel), logfile
        self.schedule = either("beat_schedule_filename", schedule)
        self.scheduler_cls = either("beat_scheduler", scheduler, scheduler_cls)
        self.redirect_stdouts = either("worker_redirect_stdouts", redirect_stdouts)
        self.redirect_stdouts_level = either("worker_redirect_stdouts_level", redirect_stdouts_level)
        if remote_control:
            log.warning("remote_control is ignored: a scheduler answers no control requests here")

    def run(self) -> None:
        """Raises ConfigError for a wrong entry or scheduler, and what ends the scheduler."""
        from qcore.beat.service import BeatService

        app = self.app
        color = None if self.no_color is None else not self.no_color
        app.log.setup(self.loglevel, self.logfile, colorize=color)
        app.import_modules()
        app.tasks  # noqa: B018  a project adds entries when its tasks are complete
        reach(app)
        with PidFile(self.pidfile):
            beat = BeatService(app, self.scheduler_cls, self.schedule, self.max_interval, embedded=False)
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, lambda *_: beat.ended.set())
            beat.start()
            beat.wait_ready()
            if not self.quiet:
                print(f"{beat.words()}. Ready.", flush=True)
            if self.redirect_stdouts:
                app.log.redirect_stdouts(self.redirect_stdouts_level)
            beat.ended.wait()
            beat.stop()
        if beat.failed is not None:
            raise beat.failed


def evcam(
    camera: Any,
    freq: float = 1.0,
    maxrate: str | float | None = None,
    loglevel: Any = 0,
    logfile: str | None = None,
    pidfile: str | None = None,
    timer: Any = None,
    app: Any = None,
    **kwargs: Any,
) -> None:
    """Take pictures with a camera, a class as Polaroid or its dotted name, every `freq` seconds until Ctrl-C,
    then exit. Logging is set up first. Raises ConfigError, BrokerDown."""
    app = app_or_default(app)
    with PidFile(pidfile):
        app.log.setup_logging_subsystem(loglevel, logfile)
        print(f"-> evcam: Taking snapshots with {camera} (every {freq} secs.)")
        taker = instantiate(camera, app.events.State(), app=app, freq=freq, maxrate=maxrate, timer=timer)
        try:
            photograph(taker, app)
        except KeyboardInterrupt:
            raise SystemExit from None


def maybe_patch_concurrency(
    argv: Sequence[str] | None = None,
    short_opts: Sequence[str] | None = None,
    long_opts: Sequence[str] | None = None,
    patches: Mapping[str, Callable[[], Any]] | None = None,
) -> None:
    """Patch the process if a command line names a pool that needs it (`-P gevent`, `--pool=eventlet`).
    `patches` has a function for each such pool. Raises ConfigError where its library is not
    installed."""
    words = list(sys.argv if argv is None or not argv else argv)
    pool = _option(words, short_opts or ["-P"], long_opts or ["--pool"])
    if not patches:
        patch_for(pool)
    elif pool in patches:
        patches[pool]()


def _option(words: list[str], short: Sequence[str], long: Sequence[str]) -> str:
    """The value of an option; empty without it."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in long and equals:
            return value
        if word in long or word in short:
            return following
    return ""
