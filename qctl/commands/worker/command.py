"""`qctl worker`: run a worker for the app of -A. After this: qcore/worker/worker.py."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from qcore.pools import patch_for
from qctl import COLLECT, COLLECT_AT_START, exit_codes
from qctl.cli.command import CliGroup
from qctl.cli.session import current
from qctl.cli.types import LOG_LEVELS, Kind, Names, OneOf, Span
from qctl.cli.unlike_celery import accepted
from qctl.commands.worker.detach import Identity, from_settings, run_with, to_background, without_option

if TYPE_CHECKING:
    from qcore.app.app import App


class Concurrency(Kind):
    """A number of slots, 1 or more, or `auto`."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int) or value == "auto":
            return value
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            raise click.BadParameter(
                f"'{value}' is not a number of tasks, 1 or more, or 'auto'", ctx=ctx, param=param
            )
        return number


class PoolName(Kind):
    """The name of a pool. The registry is imported only when the option is given."""

    name = "pool"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from qcore.pools.registry import CUSTOM, is_place, pools

        aliases = {"processes": "prefork", "thread": "threads"}
        name = aliases.get(str(value), str(value))
        if name in pools or name == CUSTOM or is_place(name):
            return name
        return OneOf("pool", [*pools.names(), *aliases, CUSTOM, "module:Class"]).convert(name, param, ctx)


def skip_checks(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Celery's variable says it, so that it holds for a restart by --reload too."""
    if value:
        os.environ["CELERY_SKIP_CHECKS"] = "true"


GROUPS = {
    "Worker": (
        "hostname",
        "loglevel",
        "logfile",
        "log_format",
        "include",
        "skip_checks",
        "task_events",
        "heartbeat_interval",
        "drain_timeout",
        "reload",
    ),
    "Pool": (
        *("pool", "concurrency", "autoscale", "prefetch_multiplier", "disable_prefetch", "time_limit"),
        *("soft_time_limit", "max_tasks_per_child", "max_memory_per_child", "pool_start_method"),
    ),
    "Queues": ("queues", "exclude_queues", "purge"),
    "Schedule": ("beat", "schedule_filename", "scheduler"),
    "Daemon": ("detach", "pidfile", "health_port", "metrics_port", "uid", "gid", "umask", "executable"),
    "Accepted for compatibility with Celery": (
        *("without_heartbeat", "without_gossip", "without_mingle", "optimization", "statedb"),
    ),
}


#: the words behind `--`, in the context's meta
SETTINGS = "qctl.commands.worker.settings"


def _set(app: App, word: str) -> None:
    """Set what a word behind `--` says, above all other sources."""
    from qcore.errors import ConfigError, UnknownName
    from qcore.settings.config import assigned
    from qcore.settings.table import TABLE

    try:
        name, value = assigned(word, "worker")
    except (ConfigError, UnknownName) as exc:
        raise click.UsageError(str(exc)) from None
    if name in TABLE:
        app.conf.override(name, value)
    else:
        app.conf[name] = value


class WorkerGroup(CliGroup):
    """`qctl worker`. A worker that starts does not import the subcommands. Words behind `--` are settings."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[SETTINGS], args = args[at + 1 :], args[:at]
        return super().parse_args(ctx, args)

    def other_home(self, ctx: click.Context, name: str) -> str:
        return f"; a setting stands behind --: `qctl worker -- {name}`" if "=" in name else ""

    def list_commands(self, ctx: click.Context) -> list[str]:
        if not self.commands:
            from qctl.commands.worker.manage import pages

            self.commands.update((page.name or "", page) for page in pages())
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        self.list_commands(ctx)
        return super().get_command(ctx, cmd_name)


@click.group(
    "worker",
    watches=False,
    cls=WorkerGroup,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND [ARGUMENTS]...]",
    groups=GROUPS,
    examples=[
        ("qctl -A proj worker", "run the tasks of proj.py, one process per CPU"),
        ("qctl -A proj worker -c 8 -Q mails,reports -E", "concurrency 8, two queues, task events"),
        ("qctl -A proj worker --autoscale 20,2", "two to twenty processes, depending on the backlog"),
        (
            "qctl -A proj worker -D --pidfile w.pid -f w.log",
            "in the background; SIGTERM to that pid stops it",
        ),
        ("qctl -A proj worker --reload", "for development: restart whenever a file is saved"),
        ("qctl -A proj worker -- broker.pool_limit=3", "with a setting"),
        ("qctl -A proj worker -P threads -n io1@%h -l info", "a thread pool, with a node name and log level"),
    ],
    exit_codes={
        exit_codes.OK: "warm shutdown: all running tasks finished",
        exit_codes.USAGE: "wrong usage, no app, or an app that cannot be loaded",
        exit_codes.FAILED: "the worker failed",
        exit_codes.NOT_FOUND: "cold shutdown: running tasks were stopped and returned to their queues",
    },
    see_also=["status", "inspect stats", "control shutdown", "events"],
)
@click.option(
    "-n", "--hostname", metavar="NAME", help="Node name; %h host, %n its first part, %d its domain."
)
@click.option(
    "-P",
    "--pool",
    type=PoolName(),
    help="Pool: prefork, threads, asyncio, gevent, eventlet, solo, or a class, module:Class.",
)
@click.option(
    "-c",
    "--concurrency",
    type=Concurrency(),
    help="Number of concurrent tasks, or auto. [default: usable CPUs; asyncio, gevent, eventlet: 100]",
)
@click.option(
    "--autoscale", metavar="MAX,MIN", help="Scale the pool between MIN (0) and MAX, by the backlog."
)
@click.option("-Q", "--queues", type=Names(), help="Queues to consume, in this order.")
@click.option("-X", "--exclude-queues", type=Names(), help="Configured queues not to consume.")
@click.option("-E", "--task-events", "--events", is_flag=True, help="Send task events, for the dashboard.")
@click.option("-l", "--loglevel", type=OneOf("log level", LOG_LEVELS), help="Log level. [default: WARNING]")
@click.option("-f", "--logfile", metavar="FILE", help="Log to this file instead of stderr; %n, %h as in -n.")
@click.option(
    "--log-format",
    metavar="FORMAT",
    help="Format of the log: text, json (an object per line), or a formatter, module:Class.",
)
@click.option("--time-limit", type=Span(), help="Hard time limit: kill tasks that run longer.")
@click.option(
    "--soft-time-limit", type=Span(), help="Soft time limit: raise SoftTimeLimitExceeded in the task."
)
@click.option(
    "--max-tasks-per-child", type=click.IntRange(1), help="Replace a child process after this many tasks."
)
@click.option(
    "--max-memory-per-child",
    type=click.IntRange(1),
    help="Replace a child process above this resident memory, in KiB.",
)
@click.option("--prefetch-multiplier", type=click.IntRange(0), help="Prefetch limit: messages held per slot.")
@click.option("-I", "--include", type=Names(), help="Additional modules to import.")
@click.option(
    "--purge", "--discard", is_flag=True, help="Purge all waiting messages of its queues before it starts."
)
@click.option(
    "--health-port",
    metavar="[HOST:]PORT",
    help="Serve /live, /ready and /startup over HTTP; without HOST at every address.",
)
@click.option(
    "--metrics-port",
    metavar="[HOST:]PORT",
    help="Serve this worker's metrics for Prometheus at /metrics; without HOST at every address.",
)
@click.option("--pidfile", metavar="FILE", help="Write the process id to this file; refuse to start twice.")
@click.option("--heartbeat-interval", type=Span(), help="Interval between heartbeats.")
@click.option("--drain-timeout", type=Span(), help="Time for running tasks to finish at a warm shutdown.")
@click.option("--without-heartbeat", is_flag=True, help="Send no heartbeat events.")
@click.option(
    "--disable-prefetch", is_flag=True, help="Prefetch nothing: hold only messages that a free slot can run."
)
@click.option("-D", "--detach", is_flag=True, help="Run in the background; give --logfile too.")
@click.option("--uid", metavar="USER", help="Run as this user, by name or number.")
@click.option("--gid", metavar="GROUP", help="Run as this group, by name or number.")
@click.option("--umask", metavar="MODE", help="File mode creation mask, octal: 022.")
@click.option("--reload", is_flag=True, help="Restart whenever a .py file below this directory is saved.")
@click.option("--without-gossip", is_flag=True, help="Take no part in elections (app.control.election).")
@accepted("--without-mingle", why="workers do not synchronise at start")
@click.option(
    "-O",
    "--optimization",
    type=OneOf("profile", ("default", "fair")),
    expose_value=False,
    help="default or fair: both spread tasks fairly, as in Celery.",
)
@accepted("-S", "--statedb", why="the broker stores revoked ids", is_flag=False)
@click.option(
    "-T",
    "--skip-checks",
    is_flag=True,
    expose_value=False,
    callback=skip_checks,
    help="Do not run Django's checks at the start.",
)
@click.option(
    "--pool-start-method",
    type=OneOf("start method", ("fork", "spawn")),
    help="How prefork starts processes; spawn: fresh interpreters, which load the app anew. [default: fork]",
)
@click.option("-B", "--beat", is_flag=True, help="Publish the schedule too; several workers may do so.")
@click.option("-s", "--schedule-filename", "--schedule", metavar="FILE", help="With -B: as of `qctl beat`.")
@click.option("--scheduler", metavar="CLASS", help="With -B: as of `qctl beat`.")
@click.option("--executable", metavar="PYTHON", help="Run the worker with this Python.")
def command(
    detach: bool,
    disable_prefetch: bool,
    uid: str | None,
    gid: str | None,
    umask: str | None,
    reload: bool,
    executable: str | None,
    **options: Any,
) -> int:
    """Start a worker for the app.

    Without a command, start a worker. The commands manage running workers. Ctrl-C or SIGTERM
    stops it: running tasks finish first, waiting ones stay in the broker. A second one stops it at
    once; then unfinished tasks are run again by another worker.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return exit_codes.OK
    if executable is not None:
        run_with(executable, current())
    if not options["beat"] and (options["scheduler"] or options["schedule_filename"]):
        raise click.UsageError("--scheduler and --schedule need --beat (-B)")
    if reload:
        from qctl.commands.worker.reload import run

        if detach:
            raise exit_codes.CommandError(exit_codes.USAGE, "--reload cannot be combined with --detach")
        return run(current())
    patch_for(options["pool"])  # before the app is imported
    from qcore.base import provided
    from qcore.pools.prefork.spawned import is_spawned
    from qcore.worker.process.options import file_name, node_name, script_command

    session = current()
    session.needs_app("a worker")
    session.patient = True
    if options["purge"] and not is_spawned():
        from qctl.cli.read_only import permit

        permit(session, "qctl worker --purge")
    app = session.app
    if app.is_celery:
        raise exit_codes.CommandError(
            exit_codes.USAGE,
            f"'{session.options.app}' is a Celery app; its tasks need Celery's worker",
            "to run them here, unset QCTL_CELERY: `import celery` is then qcore's",
        )
    if executable is None and app.conf.worker_executable:
        run_with(app.conf.worker_executable, session)
    for word in click.get_current_context().meta.get(SETTINGS, ()):
        _set(app, word)
    if disable_prefetch:
        options["prefetch_multiplier"] = 1
    named = {**options, "uid": uid, "gid": gid, "umask": umask}
    settled = from_settings(app.conf, "worker", named)
    for option in ("logfile", "pidfile"):
        template = settled[option]
        options[option] = template and file_name(template, node_name(options["hostname"]))
    identity = Identity(settled["uid"], settled["gid"], settled["umask"])
    if not is_spawned():  # else the worker has done it
        if detach and not to_background(options):
            return exit_codes.OK
        identity.take()
    if session.is_embedded:
        provided["worker_command"] = script_command
    else:
        words = without_option(session.argv, "--workdir")  # this process is there
        provided["worker_command"] = lambda: (sys.executable, "-m", "qctl", *words)
    given = {key: value for key, value in options.items() if value not in (None, False)}
    from qctl.cli.user_options import values

    worker = app.worker(**given, **values(click.get_current_context(), app))
    if gc.get_threshold() == COLLECT_AT_START:  # the app has not set it
        gc.set_threshold(*COLLECT)
    code: int = worker.run()
    return code
