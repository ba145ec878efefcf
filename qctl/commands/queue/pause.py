"""`queue pause`, `queue resume`, `queue drain`."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand
from qctl.cli.session import current
from qctl.cli.types import QueueName, Span
from qctl.commands.queue.ls import item_of, refuse_unknown, show
from qctl.fleet import celery_workers
from qctl.output.text import stamp

LOOK_S = 0.25


def _pause(name: str, for_s: float | None) -> int:
    refuse_unknown(name)
    session = current()
    admin = session.broker.administration
    theirs = celery_workers.consumers_of(session.app, name)
    before = next((pause.told for pause in admin.pauses() if pause.queue == name), ())
    # A pause with an end lifts itself at the broker; nobody would tell Celery's workers then.
    told = [] if for_s is not None else theirs.nodes
    # Noted before they are told: a resume then finds those that were told and did not answer.
    admin.pause(name, session.options.reason or "", _who(), for_s, sorted({*before, *told}))
    failed = celery_workers.tell(session.app, "cancel_consumer", name, told)
    going_on = sorted({*failed, *theirs.silent, *(set(theirs.nodes) - set(told))})
    item = {**item_of(name), "pause_ignored_by": going_on}
    show([item])
    until = f" until {item['paused_until_at']}" if item["paused_until_at"] else ""
    session.out.note(f"{name} is paused{until}; running tasks and publishers continue")
    if stopped := [node for node in told if node not in failed]:
        session.out.note(f"Celery workers told to stop consuming it: {', '.join(stopped)}")
    for node in going_on:
        why = failed.get(node, "it did not answer" if node in theirs.silent else "")
        if not why:
            why = "Celery's workers know no pause that ends by itself"
        session.out.warn(f"{node} still consumes {name}: {why}")
    return exit_codes.PARTIAL if going_on else exit_codes.OK


def _who() -> str:
    from getpass import getuser

    try:
        user = getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"


def _resume(name: str) -> int:
    refuse_unknown(name)
    session = current()
    admin = session.broker.administration
    told = next((pause.told for pause in admin.pauses() if pause.queue == name), ())
    failed = celery_workers.tell(session.app, "add_consumer", name, told)
    admin.resume(name)
    show([item_of(name)])
    session.out.note(f"{name} is no longer paused")
    if started := [node for node in told if node not in failed]:
        session.out.note(f"Celery workers told to consume it again: {', '.join(started)}")
    for node, why in sorted(failed.items()):
        session.out.warn(f"{node} was not told to consume {name} again: {why}")
    return exit_codes.PARTIAL if failed else exit_codes.OK


def _drain(name: str, wait: bool, but_delayed: bool) -> int:
    refuse_unknown(name)
    session = current()
    started, timeout = time.monotonic(), session.options.timeout or None
    pause = next((p for p in session.broker.administration.pauses() if p.queue == name), None)
    if pause is not None:
        until = f" until {stamp(pause.until, False)}" if pause.until is not None else ""
        session.out.warn(f"{name} is paused{until}: no worker consumes it")
    while True:
        depth = session.broker.administration.depth(name)
        delayed = 0 if but_delayed else depth.delayed or 0
        left = depth.ready + delayed + (depth.in_flight or 0)
        passed = time.monotonic() - started
        if not left or not wait or (timeout is not None and passed >= timeout):
            break
        time.sleep(LOOK_S if timeout is None else max(0.0, min(LOOK_S, timeout - passed)))
    fields: dict[str, Any] = {
        "queue": name,
        "drained": not left,
        "ready": depth.ready,
        "delayed": depth.delayed,
        "in_flight": depth.in_flight,
        "waited_s": round(passed, 3),
    }
    if not session.out.for_people:
        session.out.document("queue.drain", fields, "queue")
    held = "unknown" if depth.in_flight is None else depth.in_flight
    summary = f"{depth.ready} ready, {depth.delayed or 0} delayed, {held} in flight"
    if left:
        raise exit_codes.CommandError(
            exit_codes.NOT_MET, f"{name} is not empty: {summary}", "" if wait else "--wait waits for it"
        )
    session.out.note(f"{name} is empty, and nothing is in flight")
    if depth.in_flight is None:
        session.out.warn("this broker does not report messages in flight; see `qctl inspect active`")
    return exit_codes.OK


_CODES = {exit_codes.NOT_FOUND: "no queue of that name", exit_codes.FAILED: "this broker cannot do that"}

pause_page = CliCommand(
    "pause",
    callback=_pause,
    params=[
        click.Argument(["name"], type=QueueName()),
        click.Option(["--for", "for_s"], type=Span(), help="Resume after this time: 90s, 30m, 2h."),
    ],
    changes=True,
    help="""Pause a queue: workers stop consuming it.

    Within a second no qcore worker consumes it, including those that start later. Running tasks
    continue, and so does publishing. The user, the reason (--reason) and the end are stored with the
    pause. After --for it ends automatically, by the broker's clock. RabbitMQ does not support it: there
    `qctl control cancel_consumer` stops the workers that run now.

    Celery's workers know no pauses: those that run are told to stop consuming the queue, and to start
    again by `queue resume`. What they hold already still runs, and one that starts later consumes. With
    --for they are not told. Workers that go on consuming are named, and the exit code is 4.""",
    examples=[
        ("qctl queue pause mails", "until `qctl queue resume mails`"),
        ("qctl queue pause mails --for 30m --reason 'db upgrade'", "resumes automatically"),
    ],
    exit_codes={**_CODES, exit_codes.PARTIAL: "some of Celery's workers still consume it"},
    see_also=["queue resume", "queue drain", "control cancel_consumer"],
)
resume_page = CliCommand(
    "resume",
    callback=_resume,
    params=[click.Argument(["name"], type=QueueName())],
    changes=True,
    help="""Resume a paused queue.

    Celery's workers that `queue pause` told to stop are told to consume it again.""",
    examples=[("qctl queue resume mails", "workers consume it again")],
    exit_codes={**_CODES, exit_codes.PARTIAL: "some of Celery's workers do not consume it again"},
    see_also=["queue pause"],
)
drain_page = CliCommand(
    "drain",
    callback=_drain,
    params=[
        click.Argument(["name"], type=QueueName()),
        click.Option(
            ["--wait"], is_flag=True, help="Wait until the queue is drained, or until the timeout (-t)."
        ),
        click.Option(["--but-delayed"], is_flag=True, help="Ignore delayed messages."),
    ],
    watches=False,
    help="""Check whether a queue is empty with nothing in flight.

    It changes nothing: consumers and publishers continue. RabbitMQ does not report messages in flight, nor
    does Redis while Celery's workers hold more than 10,000.""",
    examples=[
        ("qctl queue drain mails --wait --timeout 10m", "exit code 0 when it is empty, 6 after ten minutes")
    ],
    exit_codes={exit_codes.NOT_FOUND: "no queue of that name", exit_codes.NOT_MET: "the queue is not empty"},
    see_also=["queue pause", "wait"],
)
