"""The entry point: parse, dispatch, and turn every error into one sentence and an exit code.

In:  the words of the command line.  Out: an exit code of exit_codes.py.
After this: qctl/commands/<name>.py.  Every run of qctl pays for the imports here, `--help` included:
no kombu, no redis, no textual, no rich and not the user's app.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from qctl import VERSION, exit_codes
from qctl.cli.command import LazyGroup
from qctl.cli.print_error import print_error
from qctl.cli.session import Session

SECTIONS = {
    "Run": {
        "worker": "Start a worker for the app",
        "beat": "Publish the schedule of the app",
        "multi": "Start, stop and restart several workers of this host",
        "call": "Send a task, and wait for its result if asked",
        "result": "Print the result of a task",
        "demo": "Try the main commands in ten seconds, without a server",
        "bench": "Measure the throughput of this broker with empty tasks",
    },
    "Look": {
        "status": "List the workers that are online",
        "health": "Check that workers are healthy: exit code 0 or 6",
        "doctor": "Diagnose the fleet; each finding has the command that fixes it",
        "inspect": "Query workers: active, reserved, registered, stats",
        "events": "Live dashboard of events, or --dump for lines",
        "task": "Find, show and revoke single tasks",
        "failed": "Failed tasks: list, group, show, retry, delete",
        "quarantine": "Malformed messages in quarantine: show, replay, delete",
        "dead": "Dead-lettered tasks, which crashed their worker: show, replay",
    },
    "Watch": {
        "wait": "Wait until a condition holds",
        "watch": "Run a command whenever a condition becomes true",
        "metrics": "Fleet metrics in Prometheus text format",
    },
    "Change": {
        "control": "Change workers at run time",
        "queue": "List, peek, pause and drain queues; move and delete messages",
        "schedule": "List, explain and change the schedule while it runs",
        "purge": "Delete the messages that wait in queues",
        "migrate": "Move waiting messages from one broker to another",
    },
    "Read": {
        "list": "List the bindings of queues",
        "graph": "Graphs of the fleet or of a worker, as DOT text",
        "logtool": "Count and find entries in worker logs",
        "audit": "Audit log of changes made with qctl",
        "report": "Print versions and settings for bug reports",
    },
    "Set up": {
        "ctx": "Name fleets (contexts), and choose the default",
        "config": "Show the effective settings and where each comes from",
        "shell": "Start Python with the app and its tasks loaded",
        "check": "Read a Celery project and list what differs under qcore",
        "upgrade": "Convert old setting names to current ones",
        "amqp": "Single commands of AMQP and a shell, for RabbitMQ",
        "completion": "Print the completion script of a shell",
        "explain": "Explain the fields of the output",
        "help": "Explain a command, exit codes, formats, the environment",
    },
}

#: the module of each command
MODULES = {
    "beat": "qctl.commands.beat",
    "amqp": "qctl.commands.amqp",
    "audit": "qctl.commands.audit",
    "bench": "qctl.commands.bench.command",
    "call": "qctl.commands.call",
    "check": "qctl.commands.check.command",
    "completion": "qctl.commands.completion",
    "config": "qctl.commands.config",
    "control": "qctl.commands.remote.control",
    "ctx": "qctl.commands.ctx",
    "dead": "qctl.commands.quarantine.dead",
    "demo": "qctl.commands.demo.command",
    "doctor": "qctl.commands.doctor.command",
    "events": "qctl.commands.events.command",
    "explain": "qctl.commands.explain.command",
    "failed": "qctl.commands.failed",
    "graph": "qctl.commands.graph",
    "health": "qctl.commands.health.command",
    "help": "qctl.commands.help",
    "inspect": "qctl.commands.remote.inspect",
    "list": "qctl.commands.list",
    "logtool": "qctl.commands.logtool",
    "metrics": "qctl.commands.metrics.command",
    "migrate": "qctl.commands.migrate.command",
    "multi": "qctl.commands.multi.command",
    "purge": "qctl.commands.purge",
    "quarantine": "qctl.commands.quarantine.command",
    "queue": "qctl.commands.queue.command",
    "report": "qctl.commands.report",
    "result": "qctl.commands.result",
    "schedule": "qctl.commands.schedule.command",
    "shell": "qctl.commands.shell",
    "status": "qctl.commands.status",
    "task": "qctl.commands.task.command",
    "upgrade": "qctl.commands.upgrade",
    "wait": "qctl.commands.wait",
    "watch": "qctl.commands.watch",
    "worker": "qctl.commands.worker.command",
}

SHORT = """qctl runs and watches task queues (its own workers, and Celery's).

  qctl -A proj worker                 start a worker
  qctl call proj.add -a '[2, 2]'      send a task
  qctl -b redis://host/0 status       show the workers of a fleet

{sections}

More: qctl --help, qctl help COMMAND.  Never used it before? qctl demo
"""


@click.command(
    "qctl",
    cls=LazyGroup,
    sections=SECTIONS,
    modules=MODULES,
    extends="qctl.commands",
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGUMENTS]...",
    examples=[
        ("qctl demo", "see a worker, a call and a result, without any server"),
        ("qctl -A proj worker -c 4", "run the tasks of proj.py, four at once"),
        ("qctl call proj.add -a '[2, 2]' --wait", "send a task and print what it returns"),
        ("qctl -b redis://host/0 status", "which workers are online"),
        ("qctl -b redis://host/0 events", "the dashboard"),
    ],
    exit_codes=list(exit_codes.TABLE),
)
@click.option("--version", "show_version", is_flag=True, help="Print the version and leave.")
@click.option(
    "--config", metavar="MODULE", help="Settings of an app that names none. [env: CELERY_CONFIG_MODULE]"
)
@click.option(
    "--loader", metavar="CLASS", help="Loader class: app, default or module.Class. [env: CELERY_LOADER]"
)
@click.option(
    "--skip-checks",
    is_flag=True,
    allow_from_autoenv=False,  # any text in the variable counts
    help="Do not run Django's checks. [env: CELERY_SKIP_CHECKS]",
)
@click.pass_context
def cli(
    ctx: click.Context, show_version: bool, config: str | None, loader: str | None, skip_checks: bool
) -> None:
    """Run and watch task queues: qcore's own workers, and Celery's.

    Without -A and -b qctl uses the embedded SQLite broker, which needs no server.
    """
    # As in Celery, in the environment: the processes that a command starts read them there too.
    given = {
        "CELERY_CONFIG_MODULE": config,
        "CELERY_LOADER": loader,
        "CELERY_SKIP_CHECKS": "true" if skip_checks else None,
        "CELERY_BROKER_URL": os.environ.get("CELERY_BROKER"),  # --broker of Celery's command line
    }
    os.environ.update({name: value for name, value in given.items() if value})
    if show_version:
        click.echo(f"qctl {VERSION}")
    elif ctx.invoked_subcommand is None:
        lines = (f"{heading + ':':<9}{' '.join(names)}" for heading, names in SECTIONS.items())
        click.echo(SHORT.format(sections="\n".join(lines)), nl=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; return the exit code."""
    session = Session()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the locale cannot print are escaped
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv), session)
    except BaseException as exc:
        code = _report(exc, session)
    return _flush(code)


def run_worker(app: Any, words: Sequence[str]) -> None:
    """`App.worker_main`: run a worker for this app, then exit the process."""
    run_command(app, ["worker", *words])


def run_command(app: Any, words: Sequence[str]) -> None:
    """`Celery.start`: run a command of qctl for this app, then exit the process."""
    session = Session()
    session.__dict__["app"] = app
    session.options.app = app.main or "app"
    session.is_embedded = True
    session.without_layers()
    try:
        code = _run(list(words), session)
    except BaseException as exc:
        code = _report(exc, session)
    sys.exit(_flush(code))


def _run(argv: list[str], session: Session) -> int:
    if "_QCTL_COMPLETE" in os.environ:
        from click.shell_completion import shell_complete

        from qctl.cli.completion import take_line

        take_line(os.environ)
        return shell_complete(cli, {"obj": session}, "qctl", "_QCTL_COMPLETE", os.environ["_QCTL_COMPLETE"])
    session.argv = argv
    try:
        # As in Celery, CELERY_WORKER_CONCURRENCY is -c of `worker`, and so for each option of each command.
        with cli.make_context("qctl", list(argv), obj=session, auto_envvar_prefix="CELERY") as ctx:
            value: Any = cli.invoke(ctx)
    except click.exceptions.Exit as exc:  # --help and the like
        value = exc.exit_code
    finally:
        session.close()
    return value if isinstance(value, int) else exit_codes.OK


def _report(exc: BaseException, session: Session) -> int:
    """Print the error on stderr; return the exit code."""
    if isinstance(exc, SystemExit):
        return exc.code if isinstance(exc.code, int) else exit_codes.FAILED
    if isinstance(exc, BrokenPipeError):
        return exit_codes.CLOSED_PIPE
    if session.options.debug and not isinstance(exc, click.ClickException | click.Abort):
        import traceback

        traceback.print_exception(exc)
    if isinstance(exc, KeyboardInterrupt | click.Abort | EOFError):
        sys.stderr.write("\n" if sys.stderr.isatty() else "")
        return exit_codes.INTERRUPTED
    if isinstance(exc, click.exceptions.NoArgsIsHelpError):
        click.echo(exc.format_message())
        return exit_codes.OK
    stop = _usage(exc) if isinstance(exc, click.ClickException) else exit_codes.explain(exc)
    if stop is None:
        stop = exit_codes.CommandError(exit_codes.BUG, f"{type(exc).__name__}: {exc}", _write_report(exc))
    if stop.message:
        print_error(stop, session)
    return stop.code


def _usage(exc: click.ClickException) -> exit_codes.CommandError:
    context = getattr(exc, "ctx", None)
    path = context.command_path if context else "qctl"
    message = exc.format_message().removesuffix(".")
    return exit_codes.CommandError(exit_codes.USAGE, message, f"see `{path} --help`")


def _write_report(exc: BaseException) -> str:
    """Write the traceback of a bug to a private file; return a hint with its path."""
    import tempfile
    import traceback

    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="qctl-bug-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(f"qctl {VERSION}, Python {sys.version}\n\n")
            file.write("".join(traceback.format_exception(exc)))
        return f"this is a bug in qctl; please report it with {file.name}"
    except OSError:
        return "this is a bug in qctl; run again with --debug to see where"


def _flush(code: int) -> int:
    """Flush stdout; return CLOSED_PIPE if its reader closed it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = exit_codes.CLOSED_PIPE
    except ValueError:  # stdout was closed before the start
        return code
    if code == exit_codes.CLOSED_PIPE:
        # The interpreter flushes again at exit and would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
