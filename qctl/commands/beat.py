"""`qctl beat`: publish the schedule of the app of -A. After this: qcore/beat/service.py."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand
from qctl.cli.session import current
from qctl.cli.types import LOG_LEVELS, OneOf, Span
from qctl.commands.worker.detach import Identity, from_settings, run_with, to_background


@click.command(
    "beat",
    cls=CliCommand,
    watches=False,
    groups={
        "Schedule": ("scheduler", "schedule_filename", "max_interval"),
        "Process": ("loglevel", "logfile", "detach", "pidfile", "uid", "gid", "umask", "executable"),
    },
    examples=[
        ("qctl -A proj beat", "publish the schedule of proj.py"),
        ("qctl -A proj worker -B", "a worker that publishes it too"),
        (
            "qctl -A proj beat -S django_celery_beat.schedulers:DatabaseScheduler",
            "the entries of a Django database",
        ),
    ],
    exit_codes={
        exit_codes.OK: "stopped by Ctrl-C or SIGTERM",
        exit_codes.USAGE: "wrong usage, an app or entry that is wrong, a broker that keeps no entries",
        exit_codes.FAILED: "the scheduler failed",
    },
    see_also=["worker", "schedule", "doctor"],
)
@click.option("-S", "--scheduler", metavar="CLASS", help="Scheduler class, module:Class. [default: qcore's]")
@click.option(
    "-s", "--schedule-filename", "--schedule", metavar="FILE", help="File of a scheduler class that has one."
)
@click.option("--max-interval", type=Span(), help="Longest time between two looks at the entries.")
@click.option("-l", "--loglevel", type=OneOf("log level", LOG_LEVELS), help="Log level. [default: WARNING]")
@click.option("-f", "--logfile", metavar="FILE", help="Log to this file instead of stderr.")
@click.option("--pidfile", metavar="FILE", help="Write the process id to this file; refuse to start twice.")
@click.option("-D", "--detach", is_flag=True, help="Run in the background; give --logfile too.")
@click.option("--uid", metavar="USER", help="Run as this user, by name or number.")
@click.option("--gid", metavar="GROUP", help="Run as this group, by name or number.")
@click.option("--umask", metavar="MODE", help="File mode creation mask, octal: 022.")
@click.option("-n", "--hostname", metavar="NAME", help="Name for remote control. [default: celerybeat@HOST]")
@click.option(
    "--enable-remote-control/--no-enable-remote-control",
    default=None,
    help="Whether `inspect ping` is answered. [default: beat_enable_remote_control, which is false]",
)
@click.option("--executable", metavar="PYTHON", help="Run the scheduler with this Python.")
def command(
    scheduler: str | None,
    schedule_filename: str | None,
    max_interval: float | None,
    loglevel: str | None,
    logfile: str | None,
    pidfile: str | None,
    detach: bool,
    uid: str | None,
    gid: str | None,
    umask: str | None,
    hostname: str | None,
    enable_remote_control: bool | None,
    executable: str | None,
) -> int:
    """Publish the schedule of the app.

    Any number of schedulers may run: each instant of each entry is published once, and the end of
    one of them delays nothing. A scheduler class of the project (-S) runs as under Celery: once.
    """
    session = current()
    if executable is not None:
        run_with(executable, session)
    session.needs_app("the schedule")
    session.patient = True
    app = session.app
    if app.is_celery:
        raise exit_codes.CommandError(
            exit_codes.USAGE,
            f"'{session.options.app}' is a Celery app; its schedule needs `celery beat`",
            "to publish it here, unset QCTL_CELERY: `import celery` is then qcore's",
        )
    if executable is None and app.conf.beat_executable:
        run_with(app.conf.beat_executable, session)
    named = {"logfile": logfile, "pidfile": pidfile, "uid": uid, "gid": gid, "umask": umask}
    settled = from_settings(app.conf, "beat", named)
    logfile, pidfile = settled["logfile"], settled["pidfile"]
    identity = Identity(settled["uid"], settled["gid"], settled["umask"])
    if detach and not to_background({"logfile": logfile, "pidfile": pidfile}, "the scheduler"):
        return exit_codes.OK
    identity.take()
    beat = (scheduler, schedule_filename, max_interval, False, enable_remote_control, hostname)
    return _run(app, beat, loglevel or "WARNING", logfile, pidfile)


def _run(app: Any, options: tuple[Any, ...], loglevel: str, logfile: str | None, pidfile: str | None) -> int:
    """options: those of BeatService."""
    from qcore.base.service_manager import ServiceManager
    from qcore.beat.service import BeatService
    from qcore.settings import effects
    from qcore.worker.outage import reach
    from qcore.worker.process import log_setup
    from qcore.worker.process.pidfile import PidFile

    log_setup.set_up(app.conf, loglevel, logfile)
    app.import_modules()
    app.tasks  # noqa: B018  a project adds entries when its tasks are complete
    reach(app)
    effects.warn(app.conf.without_defaults(), logging.getLogger("qcore.beat"))
    with PidFile(pidfile):
        beat = BeatService(app, *options)

        def stop(number: int, frame: Any) -> None:
            beat.ended.set()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, stop)
        beat.start()
        beat.wait_ready()
        click.echo(f"{beat.words()}. Ready.", err=True)
        manager = ServiceManager()
        manager.ready(beat.words())
        while not beat.ended.wait(min(manager.every_s, threading.TIMEOUT_MAX)):
            manager.alive()
        manager.stopping("the scheduler stops")
        beat.stop()
    if beat.failed is not None:
        raise beat.failed
    app.close()
    return exit_codes.OK
