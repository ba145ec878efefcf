"""`qctl wait`: wait until a condition holds."""

from __future__ import annotations

import time

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.session import current
from qctl.cli.types import Span
from qctl.fleet import conditions
from qctl.output.text import age

EVERY_S = 0.25


@page(
    "wait",
    examples=[
        ("qctl wait 'queue:mails depth=0' --timeout 5m", "until the queue is empty and nothing is in flight"),
        ("qctl wait 'workers>=3' -t 30s", "until three workers are online"),
        ("qctl wait 'task:2f9c1e0a done=yes'", "until the task has ended, with any outcome"),
        ("qctl wait 'queues ready<100' --hold 10s", "until the condition has held for ten seconds"),
    ],
    exit_codes={exit_codes.OK: "the condition holds", exit_codes.NOT_MET: "the timeout (-t) passed first"},
    see_also=["watch", "queue ls", "health"],
    watches=False,
)
@click.argument("condition", metavar="CONDITION", nargs=-1, required=True)
@click.option("--hold", type=Span(), default=0.0, help="The condition must hold for this long.")
@click.option("--every", type=Span(), default=EVERY_S, help="Polling interval. [default: 0.25s]")
def command(condition: tuple[str, ...], hold: float, every: float) -> int:
    """Wait until a condition holds.

    Without -t there is no time-out. All comparisons of a condition must hold at the same time. Without a
    subject the condition is about the app's default queue.

    \b
    queue:NAME   ready, delayed, in_flight, depth (all three), paused
    queues       the same, over all queues
    workers      online, silent; `workers>=3` is short for `workers online>=3`
    task:ID      state (started, succeeded, failed, …), done
    """
    session = current()
    wanted = conditions.parse(" ".join(condition), lambda: session.app.conf.task_default_queue)
    started = time.monotonic()
    timeout = session.options.timeout or None
    since: float | None = None
    while True:
        facts = wanted.look(session)
        now = time.monotonic()
        if not wanted.holds(facts):
            since = None
        elif since is None:
            since = now
        if since is not None and now - since >= hold:
            break
        left = started + timeout - now if timeout is not None else every
        if left <= 0:
            break
        time.sleep(min(every, left))
    met = since is not None and now - since >= hold
    fields = {"condition": wanted.text, "met": met, "waited_s": round(now - started, 3), "facts": facts}
    if not session.out.for_people:
        session.out.document("wait", fields)
    summary = ", ".join(
        f"{key} {age(value) if key == 'oldest' else value}"
        for key, value in facts.items()
        if value is not None
    )
    if not met:
        raise exit_codes.CommandError(
            exit_codes.NOT_MET, f"condition not met within {timeout:g} s: {wanted.text} ({summary})"
        )
    session.out.note(f"{wanted.text} ({summary})")
    return exit_codes.OK
