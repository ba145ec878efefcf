"""`qctl events`: the dashboard; with --dump one line for each event.

After this: dump.py or dashboard/screens/keys.py.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta

import click

from qctl import exit_codes
from qctl.cli.command import CliGroup
from qctl.cli.session import Session, current
from qctl.cli.types import LOG_LEVELS, Moment, Names, OneOf, ScreenSize, Span
from qctl.dashboard.sources.opening import Feed, opened, where_of
from qctl.output.writer import speaks_unicode

#: tasks kept in memory: for --dump and cameras, and for the dashboard
FEW, MANY = 10_000, 1_000_000


class EventsGroup(CliGroup):
    """`qctl events`. A command comes first; every other word belongs to a filter."""

    NAMES = ("record", "summary")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.NAMES:
            return None
        found: click.Command = importlib.import_module(f"qctl.commands.events.{cmd_name}").command
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_interspersed_args = not (args and args[0] in self.NAMES)
        if ctx.allow_interspersed_args:
            return super().parse_args(ctx, args)
        every = self.params
        self.params = [param for param in every if not isinstance(param, click.Argument)]
        try:
            return super().parse_args(ctx, args)
        finally:
            self.params = every


class FilterWords(click.Argument):
    """The words of a filter; the usage of a command below does not show them."""

    def get_usage_pieces(self, ctx: click.Context) -> list[str]:
        return []


@click.group(
    "events",
    cls=EventsGroup,
    invoke_without_command=True,
    subcommand_metavar="[FILTER]... | COMMAND [ARGUMENTS]...",
    watches=False,
    examples=[
        ("qctl events", "the dashboard (Enter opens, q quits, ? shows the keys)"),
        ("qctl events --dump", "one line for each event, until Ctrl-C"),
        ("qctl events --dump -o ndjson --type 'task-failed'", "failures only, for scripts"),
        ("qctl events --dump --limit 10 --for 30s", "ten events, or thirty seconds"),
        ("qctl events --dump 'name:proj.* exc:Timeout'", "only events of these tasks"),
        ("qctl events --record today.ndjson.gz", "record events in a file"),
        (
            "qctl events --replay today.ndjson.gz --speed 10",
            "replay it at ten times the speed; [ ] jump 10 s back and on",
        ),
        ("qctl events record DIR --keep 48h --max 2G", "record for days, in files of one hour"),
        ("qctl events --replay DIR --at 2026-03-01T02:10Z", "the recorded fleet at that moment"),
        ("qctl events --serve --port 8800", "in a browser on this machine"),
        ("qctl events --all-contexts", "the fleets of all contexts, each in a tab"),
        ("qctl events --once --view queues", "one screen as text, for a pipe or a ticket"),
        ("qctl events --demo", "with simulated workers and tasks"),
        ("qctl -A proj events -c proj.Camera -F 5", "call a camera with the state every 5 s"),
        ("qctl -A proj events -c proj.Camera -D --pidfile cam.pid -f cam.log", "the same in the background"),
    ],
    exit_codes={
        exit_codes.OK: "ended by q or Ctrl-C, or by --limit or --for",
        exit_codes.USAGE: "wrong usage; or the dashboard without a terminal",
        exit_codes.NO_ANSWER: "--once: no worker answered",
        exit_codes.REFUSED: "--record: the file exists",
    },
    see_also=["control enable_events", "status"],
)
@click.argument("tasks", metavar="[FILTER]...", nargs=-1, cls=FilterWords)
@click.option("-d", "--dump", is_flag=True, help="Print events instead of opening the dashboard.")
@click.option("--limit", type=click.IntRange(1), help="--dump: end after this many events.")
@click.option("--for", "duration", type=Span(), help="--dump: end after this time.")
@click.option("--type", "kinds", multiple=True, metavar="GLOB", help="--dump: only these types; repeatable.")
@click.option(
    "--max-tasks",
    type=click.IntRange(10),
    help="Tasks to keep in memory. [default: 1000000 in at most 220 MiB; with --dump 10000]",
)
@click.option(
    "--record", metavar="FILE", help="Record events in a new file: JSON lines; .gz or .zst compressed."
)
@click.option(
    "--replay",
    metavar="FILE|DIR",
    help="Read events from a recording, a file or a folder, not from the broker.",
)
@click.option(
    "--at",
    "moment",
    type=Moment(),
    help="--replay: begin at this moment, or so long before the end; of a folder, read only what is near.",
)
@click.option(
    "--history", metavar="DIR", help="Dashboard: charts begin with what `qctl events record` wrote to DIR."
)
@click.option(
    "--speed", type=float, default=1.0, help="--replay: speed factor; 0: as fast as possible. [default: 1]"
)
@click.option(
    "-c",
    "--camera",
    metavar="CLASS",
    help="Camera class (Celery's snapshots); its on_shutter(state) is called.",
)
@click.option(
    "-F",
    "--frequency",
    "--freq",
    type=Span(),
    default=1.0,
    help="--camera: time between two calls. [default: 1s]",
)
@click.option("-r", "--maxrate", metavar="RATE", help="--camera: at most so many calls: 10/m.")
@click.option("--demo", is_flag=True, help="Simulate workers and tasks, on a broker of its own.")
@click.option(
    "--workers", type=click.IntRange(1, 1000), default=20, help="--demo: number of workers. [default: 20]"
)
@click.option(
    "--rate",
    type=click.FloatRange(1, 20_000),
    default=200.0,
    help="--demo: events per second. [default: 200]",
)
@click.option("--once", is_flag=True, help="Print one screen of the dashboard as text, and end.")
@click.option("--view", metavar="NAME", help="--once: the view, such as queues. [default: overview]")
@click.option(
    "--size", type=ScreenSize(), help="--once: columns and lines. [default: the terminal's; else 120x40]"
)
@click.option(
    "--accessible",
    is_flag=True,
    help="For screen readers: sentences instead of charts, one line for each change, : for commands.",
)
@click.option("--ascii", is_flag=True, help="Dashboard: plain characters for states and lines, no colours.")
@click.option("--theme", metavar="NAME", help="Dashboard: colour theme; T lists them. [env: QCTL_THEME]")
@click.option("--all-contexts", is_flag=True, help="Dashboard: a tab for each context; ( and ) change it.")
@click.option(
    "--contexts", type=Names(), metavar="NAME,…", help="Dashboard: a tab for each of these contexts."
)
@click.option("--serve", is_flag=True, help="Serve the dashboard to browsers, read-only unless --read-write.")
@click.option("--host", default="127.0.0.1", help="--serve: address to listen on. [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    help="--serve: port to listen on; 0: any free one. [default: 8000]",
)
@click.option("-D", "--detach", is_flag=True, help="--camera, --record: run in the background.")
@click.option(
    "-l",
    "--loglevel",
    type=OneOf("log level", LOG_LEVELS),
    help="--camera, --record: log level. [default: WARNING]",
)
@click.option("-f", "--logfile", metavar="FILE", help="--camera, --record: log to this file, not to stderr.")
@click.option("--pidfile", metavar="FILE", help="--camera, --record: write the process id to this file.")
@click.option("--uid", metavar="USER", help="--camera, --record: run as this user, by name or number.")
@click.option("--gid", metavar="GROUP", help="--camera, --record: run as this group, by name or number.")
@click.option("--umask", metavar="MODE", help="--camera, --record: file mode creation mask, octal: 022.")
@click.option("--executable", metavar="PYTHON", help="Run the command with this Python.")
@click.pass_context
def command(
    ctx: click.Context,
    dump: bool,
    limit: int | None,
    duration: float | None,
    kinds: tuple[str, ...],
    max_tasks: int | None,
    record: str | None,
    replay: str | None,
    moment: datetime | timedelta | None,
    history: str | None,
    speed: float,
    camera: str | None,
    frequency: float,
    maxrate: str | None,
    demo: bool,
    workers: int,
    rate: float,
    ascii: bool,
    theme: str | None,
    all_contexts: bool,
    contexts: list[str] | None,
    accessible: bool,
    once: bool,
    view: str | None,
    size: tuple[int, int] | None,
    serve: bool,
    host: str,
    port: int,
    detach: bool,
    loglevel: str | None,
    logfile: str | None,
    pidfile: str | None,
    uid: str | None,
    gid: str | None,
    umask: str | None,
    executable: str | None,
    tasks: tuple[str, ...] = (),
) -> int:
    """Live dashboard of events, or --dump for lines.

    Workers send task events only when started with -E, or after `qctl control enable_events`. FILTER is
    described in `qctl help filters`. --record alone writes and prints nothing; it and --dump reconnect to a
    broker that is unreachable, and a line `gap` reports what was missed. --demo needs no broker and no
    worker: it simulates the fleet of a shop, with an incident in every two minutes.
    """
    if ctx.invoked_subcommand is not None:
        return exit_codes.OK
    if tasks[:1] and tasks[0] in EventsGroup.NAMES:
        misplaced = f"'{tasks[0]}' is a command, and comes before the options"
        raise exit_codes.CommandError(exit_codes.USAGE, misplaced, f"write `qctl events {tasks[0]} …`")
    session = current()
    if executable is not None:
        from qctl.commands.worker.detach import run_with

        run_with(executable, session)
    session.settle()
    background = detach or None, loglevel, logfile, pidfile, uid, gid, umask
    if any(one is not None for one in background) and ((camera is None and record is None) or dump):
        raise exit_codes.CommandError(
            exit_codes.USAGE, "options of a background process need --camera or --record, without --dump"
        )
    _refuse_mixtures(
        once,
        {
            "--dump": dump,
            "--serve": serve,
            "--camera": camera,
            "--record": record,
            "--limit": limit,
            "--for": duration,
            "--type": kinds,
            "-o": not session.out.for_people,
        },
        {"--view": view, "--size": size},
    )
    if moment is not None and (dump or replay is None):
        raise exit_codes.CommandError(exit_codes.USAGE, "--at needs --replay and the dashboard or --once")
    if history is not None and (dump or replay is not None):
        raise exit_codes.CommandError(exit_codes.USAGE, "--history is for the dashboard of a live fleet")
    with contextlib.ExitStack() as stage:
        others = serve, demo, replay, dump, record, camera, tasks, once, accessible, history
        if (all_contexts or contexts) and any(others):
            why = "--all-contexts and --contexts open the dashboard on live fleets, in a terminal"
            raise exit_codes.CommandError(exit_codes.USAGE, why, "leave out the other options and FILTER")
        shown = _contexts(session, all_contexts, contexts)
        if demo:
            from qctl.commands.demo.fleet_broker import on_stage

            stage.enter_context(on_stage(session, workers, rate))
        if camera is not None:
            from qctl.commands.events.camera import run_camera

            if not stage.enter_context(_daemon(session, *background)):
                return exit_codes.OK
            return run_camera(session, camera, frequency, maxrate, max_tasks or FEW, duration)
        if record is not None and not dump:
            kinds = kinds or ("",)  # no event has this type, so none is printed
            if not stage.enter_context(_daemon(session, *background)):
                return exit_codes.OK
        if accessible or once:
            wanted_feed = Feed(replay, 0.0 if once else speed, max_tasks or MANY, moment, history)
            return _printed(
                session, wanted_feed, accessible, once, view, (" ".join(tasks), size, ascii, theme)
            )
        if dump or limit or duration or kinds or tasks or not session.out.for_people:
            from qctl.commands.events.dump import Choice, RecordingOptions
            from qctl.commands.events.dump import dump as print_events

            wanted = None
            if tasks:
                from qctl.filters import parse

                wanted = parse(" ".join(tasks))
            choice = Choice(kinds, limit, duration, wanted)
            return print_events(session, choice, RecordingOptions(record, replay, speed), max_tasks or FEW)
        if serve:
            from qctl.dashboard.browser import serve as in_a_browser

            words = [
                *(["--theme", theme] if theme else []),
                *(["--ascii"] if ascii else []),
                *(["--replay", replay, "--speed", str(speed)] if replay else []),
                *(["--at", _spelled(moment)] if moment is not None else []),
                *(["--history", history] if history else []),
                *(["--max-tasks", str(max_tasks)] if max_tasks else []),
            ]
            return in_a_browser(session, host, port, words)
        in_browser = "TEXTUAL_DRIVER" in os.environ
        terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "")
        if not (terminal or in_browser):
            raise exit_codes.CommandError(
                exit_codes.USAGE,
                "the dashboard needs a terminal",
                "`qctl events --dump` prints lines instead",
            )
        many = max_tasks or MANY
        if shown:
            from qctl.dashboard.start import run_contexts

            return run_contexts(session, shown, many, ascii, theme)
        from qctl.dashboard.sources.base import startable

        feed = opened(session, Feed(replay, speed, many, moment, history))
        feed.speaks = feed.speaks and not demo
        with startable(feed) as start:
            if in_browser:
                from qctl.dashboard.start import run

                return run(session, feed, ascii, theme, start)
            from qctl.dashboard.first_picture import FirstPicture

            colours = not (session.options.no_color or "NO_COLOR" in os.environ)
            with FirstPicture(feed, ascii, theme, where_of(session), colours) as first:
                from qctl.dashboard.start import run

                return run(session, feed, ascii, theme, start, first)


def _daemon(
    session: Session,
    detach: bool | None,
    level: str | None,
    log: str | None,
    pidfile: str | None,
    *who: str | None,
) -> contextlib.AbstractContextManager[bool]:
    """The block of Daemon.started()."""
    from qctl.commands.events.daemon import Daemon
    from qctl.commands.worker.detach import Identity

    return Daemon(bool(detach), level, log, pidfile, Identity(*who)).started(session)


def _contexts(session: Session, all_contexts: bool, names: list[str] | None) -> list[str]:
    """The contexts that get a tab; none: the effective one is shown, without tabs."""
    from qctl.configuration import contexts

    if not all_contexts and not names:
        return []
    known = contexts.load(session.out.warn)
    wanted = known if all_contexts else names or ()
    chosen = [contexts.named(known, name, "--contexts").name for name in wanted]
    if not chosen:
        raise exit_codes.CommandError(
            exit_codes.NOT_FOUND, "there is no context", "`qctl ctx add NAME -b URL` makes one"
        )
    return list(dict.fromkeys(chosen))


def _printed(
    session: Session,
    wanted: Feed,
    accessible: bool,
    once: bool,
    view: str | None,
    look: tuple[str, tuple[int, int] | None, bool, str | None],
) -> int:
    """The dashboard as text: sentences, or one screen."""
    pattern, size, plain, theme = look
    if accessible:
        from qctl.dashboard.accessible import VIEWS, read_aloud

        if pattern or size or (view is not None and view not in VIEWS):
            words = "--accessible takes no FILTER and no --size, and --view is one of " + ", ".join(VIEWS)
            raise exit_codes.CommandError(exit_codes.USAGE, words)
        root = click.get_current_context().find_root().command
        return read_aloud(session, opened(session, wanted), root, (view or VIEWS[0]) if once else None)
    from qctl.dashboard.once import Wish, print_screen, view_of

    wish = Wish(view_of(view), pattern, size, plain or not speaks_unicode(), theme)
    feed = opened(session, wanted)
    feed.speaks = False  # no alert rings for one picture
    return print_screen(session, feed, wish)


def _spelled(moment: datetime | timedelta) -> str:
    """The moment as --at takes it."""
    return moment.isoformat() if isinstance(moment, datetime) else f"{moment.total_seconds()}s"


def _refuse_mixtures(once: bool, others: Mapping[str, object], its_own: Mapping[str, object]) -> None:
    """Refuse options that have no effect with --once, and those of --once without it."""
    for name, value in (others if once else its_own).items():
        if value:
            words = f"{name} has no effect with --once" if once else f"{name} needs --once"
            raise exit_codes.CommandError(exit_codes.USAGE, words, "see `qctl events --help`")
