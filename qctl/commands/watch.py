"""`qctl watch`: run a command whenever a condition becomes true."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.session import current
from qctl.cli.types import Span
from qctl.fleet import conditions
from qctl.output.text import stamp

EVERY_S = 2.0


@page(
    "watch",
    examples=[
        (
            "qctl watch --when 'queue:mails ready>1000' --exec ./page-me",
            "whenever the condition becomes true",
        ),
        ("qctl watch --when 'workers<3' --fail", "exit with code 6 when it is true"),
        ("qctl watch --when 'queues depth>0' -o ndjson", "one line per change of the condition"),
    ],
    exit_codes={exit_codes.NOT_MET: "--fail: the condition became true"},
    see_also=["wait", "events"],
    watches=False,
)
@click.option("--when", required=True, metavar="CONDITION", help="Condition, as for `qctl wait`.")
@click.option(
    "--exec", "line", metavar="COMMAND", help="Shell command to run each time the condition becomes true."
)
@click.option("--fail", is_flag=True, help="Exit with code 6 as soon as the condition is true.")
@click.option("--every", type=Span(), default=EVERY_S, help="Polling interval. [default: 2s]")
def command(when: str, line: str | None, fail: bool, every: float) -> int:
    """Run a command whenever a condition becomes true.

    The command gets the values in its environment: QCTL_CONDITION, and QCTL_READY and the like. While
    the broker is unreachable the watch goes on. -t ends it; else Ctrl-C does.
    """
    session = current()
    wanted = conditions.parse(when, lambda: session.app.conf.task_default_queue)
    ends = time.monotonic() + session.options.timeout if session.options.timeout else None
    held: bool | None = None
    while True:
        facts = _look(wanted)
        holds = facts is not None and wanted.holds(facts)
        if facts is not None and holds != held:
            held = holds
            _print_state(wanted, facts, holds)
            if holds and line:
                _run(wanted, facts, line)
            if holds and fail:
                return exit_codes.NOT_MET
        if ends is not None and time.monotonic() + every > ends:
            return exit_codes.OK
        time.sleep(every)


def _look(wanted: conditions.Condition) -> dict[str, Any] | None:
    """The current values of the condition's fields; None while the broker is unreachable."""
    from qcore.errors import BrokerError

    session = current()
    try:
        return wanted.look(session)
    except BrokerError as exc:
        session.out.warn(f"{exc}; still watching")
        return None


def _print_state(wanted: conditions.Condition, facts: dict[str, Any], holds: bool) -> None:
    out = current().out
    at = stamp(time.time())
    if out.for_people:
        summary = ", ".join(f"{k} {v}" for k, v in facts.items() if v is not None)
        out.line(f"{at}  {'yes' if holds else 'no ':<3}  {wanted.text}  ({summary})")
    else:
        out.objects([{"at": at, "condition": wanted.text, "holds": holds, "facts": facts}])


def _run(wanted: conditions.Condition, facts: dict[str, Any], line: str) -> None:
    seen = {f"QCTL_{name.upper()}": str(value) for name, value in facts.items()}
    done = subprocess.run(line, shell=True, env={**os.environ, **seen, "QCTL_CONDITION": wanted.text})
    if done.returncode:
        current().out.warn(f"the command ended with {done.returncode}: {line}")
