"""`qctl events`: the dashboard; with --dump one line for each event.

After this: dump.py or dashboard/screen.py.
"""

from __future__ import annotations

import contextlib
import os
import sys

import click

from qctl import exits
from qctl.pages import command as page
from qctl.params import Span
from qctl.session import current


@page(
    "events",
    watches=False,
    examples=[
        ("qctl events", "the dashboard (Enter opens, q leaves, ? explains)"),
        ("qctl events --dump", "one line for each event, until Ctrl-C"),
        ("qctl events --dump -o ndjson --type 'task-failed'", "failures only, for a program"),
        ("qctl events --dump --limit 10 --for 30s", "ten events, or thirty seconds"),
        ("qctl events --dump 'name:proj.* exc:Timeout'", "only of these tasks"),
        ("qctl events --record today.ndjson.gz", "keep what happens in a file"),
        ("qctl events --dump --replay today.ndjson.gz --speed 10", "look at it again, faster"),
        ("qctl events --demo", "of a fleet that is not there, to look around"),
        ("qctl -A proj events -c proj.Camera -F 5", "a program's look at the state, every 5 s"),
    ],
    exit_codes={
        exits.OK: "ended by you, or by --limit or --for",
        exits.USAGE: "wrong usage; or the dashboard without a terminal",
    },
    see_also=["control enable_events", "status"],
)
@click.argument("tasks", metavar="[FILTER]...", nargs=-1)
@click.option("--dump", is_flag=True, help="Print events instead of opening the dashboard.")
@click.option("--limit", type=click.IntRange(1), help="--dump: end after so many events.")
@click.option("--for", "duration", type=Span(), help="--dump: end after this time.")
@click.option("--type", "kinds", multiple=True, metavar="GLOB", help="--dump: only these types; repeatable.")
@click.option(
    "--max-tasks", type=click.IntRange(10), default=10_000, help="Tasks to remember. [default: 10000]"
)
@click.option("--record", metavar="FILE", help="Write them to a file: JSON lines; .gz or .zst compressed.")
@click.option("--replay", metavar="FILE", help="--dump: from a recording, not from the broker.")
@click.option("--speed", type=float, default=1.0, help="--replay: so much faster; 0: at once. [default: 1]")
@click.option("-c", "--camera", metavar="CLASS", help="Call its on_shutter(state) now and then.")
@click.option(
    "-F", "--frequency", "--freq", type=Span(), default=1.0, help="--camera: so often. [default: 1s]"
)
@click.option("--demo", is_flag=True, help="Of workers that are not there, on a broker of its own.")
@click.option("--workers", type=click.IntRange(1, 1000), default=20, help="--demo: so many. [default: 20]")
@click.option(
    "--rate", type=click.FloatRange(1, 20_000), default=200.0, help="--demo: events a second. [default: 200]"
)
@click.option("--ascii", is_flag=True, help="Dashboard: plain characters for states and lines.")
def command(
    tasks: tuple[str, ...],
    dump: bool,
    limit: int | None,
    duration: float | None,
    kinds: tuple[str, ...],
    max_tasks: int,
    record: str | None,
    replay: str | None,
    speed: float,
    camera: str | None,
    frequency: float,
    demo: bool,
    workers: int,
    rate: float,
    ascii: bool,
) -> int:
    """Watch what happens: dashboard, or --dump.

    Workers send task events only when started with -E, or after `qctl control enable_events`. FILTER
    is as `qctl help filters` has it. --record alone writes and prints nothing. --demo needs no broker
    and no worker: it shows what a fleet of a shop would say.
    """
    session = current()
    with contextlib.ExitStack() as stage:
        if demo:
            from qctl.demo_fleet.stage import on_stage

            stage.enter_context(on_stage(session, workers, rate))
        if camera is not None:
            from qctl.camera import run_camera

            return run_camera(session, camera, frequency, max_tasks, duration)
        if replay is not None and not (dump or kinds or tasks or not session.out.for_people):
            dump = True
        if record is not None and not dump:
            kinds = kinds or ("",)  # nothing has this type, so nothing is printed
        if dump or limit or duration or kinds or tasks or not session.out.for_people:
            from qctl.dump import Choice, Reel
            from qctl.dump import dump as print_events

            wanted = None
            if tasks:
                from qctl.filters import parse

                wanted = parse(" ".join(tasks))
            choice = Choice(kinds, limit, duration, wanted)
            return print_events(session, choice, Reel(record, replay, speed), max_tasks)
        if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") in ("dumb", ""):
            raise exits.Stop(
                exits.USAGE, "the dashboard needs a terminal", "`qctl events --dump` prints lines instead"
            )
        from qctl.dashboard.screen import run

        return run(session, max_tasks=max_tasks, plain=ascii)
