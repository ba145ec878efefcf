"""`qctl events`: the dashboard; with --dump one line for each event.

After this: dump.py or dashboard/screen.py.
"""

from __future__ import annotations

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
    ],
    exit_codes={
        exits.OK: "ended by you, or by --limit or --for",
        exits.USAGE: "wrong usage; or the dashboard without a terminal",
    },
    see_also=["control enable_events", "status"],
)
@click.option("--dump", is_flag=True, help="Print events instead of opening the dashboard.")
@click.option("--limit", type=click.IntRange(1), help="--dump: end after so many events.")
@click.option("--for", "duration", type=Span(), help="--dump: end after this time.")
@click.option("--type", "kinds", multiple=True, metavar="GLOB", help="--dump: only these types; repeatable.")
@click.option(
    "--max-tasks", type=click.IntRange(10), default=10_000, help="Tasks to remember. [default: 10000]"
)
@click.option("--ascii", is_flag=True, help="Dashboard: plain characters for states and lines.")
def command(
    dump: bool, limit: int | None, duration: float | None, kinds: tuple[str, ...], max_tasks: int, ascii: bool
) -> int:
    """Watch what happens: dashboard, or --dump.

    Workers send task events only when started with -E, or after `qctl control enable_events`.
    """
    session = current()
    if dump or limit or duration or kinds or not session.out.for_people:
        from qctl.dump import Filter
        from qctl.dump import dump as print_events

        return print_events(session, Filter(kinds, limit, duration), max_tasks)
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") in ("dumb", ""):
        raise exits.Stop(
            exits.USAGE, "the dashboard needs a terminal", "`qctl events --dump` prints lines instead"
        )
    from qctl.dashboard.screen import run

    return run(session, max_tasks=max_tasks, plain=ascii)
