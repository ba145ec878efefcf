"""`qctl worker`: run a worker for the app of -A. After this: qcore/worker/worker.py."""

from __future__ import annotations

from typing import Any

import click

from qctl import exits
from qctl.pages import command as page
from qctl.params import Kind, Names, OneOf, Span
from qctl.session import current

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")


class Concurrency(Kind):
    """A number of slots, or 'auto'."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            raise click.BadParameter(f"'{value}' is not a number of tasks, 1 or more", ctx=ctx, param=param)
        return number


class PoolName(Kind):
    """The name of a pool; the known ones are looked up only when a worker is started."""

    name = "pool"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from qcore.pools.base import pools

        aliases = {"processes": "prefork", "thread": "threads"}
        return OneOf("pool", [*pools.names(), *aliases]).convert(aliases.get(value, value), param, ctx)


@page(
    "worker",
    examples=[
        ("qctl -A proj worker", "run the tasks of proj.py, as many at once as there are CPUs"),
        ("qctl -A proj worker -c 8 -Q mails,reports -E", "eight at once, two queues, with events"),
        ("qctl -A proj worker -P threads -n io1@%h -l info", "threads, named, talkative"),
    ],
    exit_codes={
        exits.OK: "stopped when asked to, every running task finished",
        exits.USAGE: "wrong usage, no app, or an app that cannot be loaded",
        exits.FAILED: "it could not go on",
        exits.NOT_FOUND: "stopped at once: running tasks were cut short and returned to their queues",
    },
    see_also=["status", "inspect stats", "control shutdown", "events"],
)
@click.option(
    "-n", "--hostname", metavar="NAME", help="Node name; %h host, %n its first part, %d its domain."
)
@click.option("-P", "--pool", type=PoolName(), help="Where tasks run: prefork, threads, asyncio, solo.")
@click.option("-c", "--concurrency", type=Concurrency(), help="Tasks at once. [default: CPUs; asyncio: 100]")
@click.option("-Q", "--queues", type=Names(), help="Queues to take tasks from, in this order.")
@click.option("-X", "--exclude-queues", type=Names(), help="Configured queues not to take from.")
@click.option("-E", "--task-events", is_flag=True, help="Send task events, for the dashboard.")
@click.option("-l", "--loglevel", type=OneOf("log level", LEVELS), help="How much to log. [default: WARNING]")
@click.option("-f", "--logfile", metavar="FILE", help="Log there, not to stderr.")
@click.option("--time-limit", type=Span(), help="Kill tasks that run longer.")
@click.option("--soft-time-limit", type=Span(), help="Tell tasks to stop that run longer.")
@click.option("--max-tasks-per-child", type=click.IntRange(1), help="Replace a child after so many tasks.")
@click.option("--max-memory-per-child", type=click.IntRange(1), help="Replace a child above so many KiB.")
@click.option("--prefetch-multiplier", type=click.IntRange(0), help="Messages held for each slot at most.")
@click.option("-I", "--include", type=Names(), help="More modules with tasks.")
@click.option("--purge", is_flag=True, help="Delete what waits in the queues first.")
@click.option("--pidfile", metavar="FILE", help="Write the process id there; refuse to start twice.")
@click.option("--heartbeat-interval", type=Span(), help="Time between signs of life.")
@click.option("--drain-timeout", type=Span(), help="Time that running tasks get when asked to stop.")
@click.option("--without-heartbeat", is_flag=True, help="Send no heartbeat events.")
@click.option("--without-gossip", is_flag=True, help="Accepted as Celery has it; without effect.")
@click.option("--without-mingle", is_flag=True, help="Accepted as Celery has it; without effect.")
@click.option("-O", "optimization", metavar="PROFILE", help="Accepted as Celery has it; always fair.")
def command(optimization: str | None, **options: Any) -> int:
    """Start a worker for the app.

    Ctrl-C or SIGTERM stops it: running tasks finish first, waiting ones stay in the broker. A second
    one stops it at once; then unfinished tasks are run again by another worker.
    """
    session = current()
    session.needs_app("a worker")
    session.patient = True
    app = session.app
    if app.is_celery:
        raise exits.Stop(
            exits.USAGE,
            f"'{session.options.app}' is a Celery app; its tasks need Celery's worker",
            "to run them here: `from qcore import App as Celery` in its module",
        )
    given = {key: value for key, value in options.items() if value not in (None, False)}
    code: int = app.worker(**given).run()
    return code
