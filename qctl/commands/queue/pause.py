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
from qctl.output.text import stamp

LOOK_S = 0.25


def _pause(name: str, for_s: float | None) -> None:
    refuse_unknown(name)
    session = current()
    session.broker.administration.pause(name, session.options.reason or "", _who(), for_s)
    item = item_of(name)
    show([item])
    until = f" until {item['paused_until_at']}" if item["paused_until_at"] else ""
    session.out.note(f"{name} is paused{until}; running tasks and publishers continue")


def _who() -> str:
    from getpass import getuser

    try:
        user = getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"


def _resume(name: str) -> None:
    refuse_unknown(name)
    current().broker.administration.resume(name)
    show([item_of(name)])
    current().out.note(f"{name} is no longer paused")


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
    pause. After --for it ends automatically, by the broker's clock. Celery's workers ignore it. RabbitMQ
    does not support it: there `qctl control cancel_consumer` stops the workers that run now.""",
    examples=[
        ("qctl queue pause mails", "until `qctl queue resume mails`"),
        ("qctl queue pause mails --for 30m --reason 'db upgrade'", "resumes automatically"),
    ],
    exit_codes=_CODES,
    see_also=["queue resume", "queue drain", "control cancel_consumer"],
)
resume_page = CliCommand(
    "resume",
    callback=_resume,
    params=[click.Argument(["name"], type=QueueName())],
    changes=True,
    help="Resume a paused queue.",
    examples=[("qctl queue resume mails", "workers consume it again")],
    exit_codes=_CODES,
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

    It changes nothing: consumers and publishers continue. Messages that Celery's workers hold
    cannot be seen. RabbitMQ does not report messages in flight.""",
    examples=[
        ("qctl queue drain mails --wait --timeout 10m", "exit code 0 when it is empty, 6 after ten minutes")
    ],
    exit_codes={exit_codes.NOT_FOUND: "no queue of that name", exit_codes.NOT_MET: "the queue is not empty"},
    see_also=["queue pause", "wait"],
)
