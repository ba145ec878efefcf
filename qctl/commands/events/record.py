"""`qctl events record DIR`: record events in segments, and delete the oldest ones.

In:  events of the broker, until Ctrl-C or SIGTERM.  Out: the files of qcore/events/history/segments.py.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.session import current
from qctl.cli.types import ByteSize, OneOf, Span
from qctl.output.text import count

if TYPE_CHECKING:
    from qcore.events.history.segments import FolderRecorder
    from qctl.cli.session import Session

#: seconds between two readings of the queues
QUEUES_EVERY_S = 15.0
MOST_QUEUES = 200


@page(
    "record",
    watches=False,
    examples=[
        ("qctl events record /var/lib/qctl/events", "until Ctrl-C or SIGTERM, in files of one hour"),
        ("qctl events record DIR --rotate 1h --keep 48h --max 2G", "the last two days, in at most 2 GB"),
        ("qctl events --replay DIR --at 2026-03-01T02:10Z", "see the fleet at that moment"),
        ("qctl events --history DIR", "the dashboard, with the charts of the time before its start"),
    ],
    exit_codes={
        exit_codes.OK: "ended by Ctrl-C, SIGTERM or --for",
        exit_codes.REFUSED: "another recorder writes to this folder",
        exit_codes.NOT_PERMITTED: "not permitted to write to the folder",
    },
    see_also=["events", "events summary"],
)
@click.argument("folder", metavar="DIR")
@click.option("--rotate", type=Span(), default=3600.0, help="Begin a new file after this time. [default: 1h]")
@click.option("--keep", type=Span(), help="Delete files whose newest event is older. [default: no limit]")
@click.option("--max", "most", type=ByteSize(), help="Delete the oldest files above this size of all: 2G.")
@click.option(
    "--compress",
    type=OneOf("compression", ["gz", "zst", "none"]),
    default="gz",
    help="Compression of the files. [default: gz]",
)
@click.option("--for", "duration", type=Span(), help="End after this time.")
def command(
    folder: str, rotate: float, keep: float | None, most: int | None, compress: str, duration: float | None
) -> int:
    """Record events in the files of a folder, the oldest of which are deleted.

    The file that is written is never deleted. What was written before a kill can be read. The depths of the
    queues are recorded every 15 s. The recorder reconnects to a broker that is unreachable.
    """
    from qcore.events.history.segments import FolderInUse, FolderRecorder

    session = current()
    if rotate < 1:
        raise exit_codes.CommandError(exit_codes.USAGE, "--rotate is shorter than one second", "write 1h")
    try:
        recorder = FolderRecorder(folder, compress, rotate, keep, most)
    except FolderInUse as exc:
        hint = "stop it, or name another folder"
        raise exit_codes.CommandError(exit_codes.REFUSED, str(exc), hint) from None
    try:
        with exit_codes.sigterm_like_ctrl_c():
            _record(session, recorder, duration)
    except KeyboardInterrupt:
        pass
    finally:
        recorder.close()
        files = count(recorder.deleted, "old file")
        session.out.note(f"{count(recorder.events, 'event')} recorded in {folder}; {files} deleted")
    return exit_codes.OK


def _record(session: Session, recorder: FolderRecorder, duration_s: float | None) -> None:
    from qctl.commands.events.dump import live_batches

    ends = None if duration_s is None else time.monotonic() + duration_s
    next_look, unreadable = 0.0, Counter[str]()
    for batch in live_batches(session, unreadable):
        ready = None
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + QUEUES_EVERY_S
            ready = _ready(session)
        recorder.write(batch, time.time(), ready)
        if ends is not None and time.monotonic() >= ends:
            break
    if unreadable:
        session.out.note(f"{unreadable['messages']} unreadable")


def _ready(session: Session) -> dict[str, int] | None:
    """Messages that are ready, by queue; None: the broker cannot be read at the moment."""
    from qcore.errors import QcoreError

    try:
        administration = session.broker.administration
        names = sorted(administration.queues())[:MOST_QUEUES]
        return {n: d.ready for n, d in zip(names, administration.depths(names), strict=True)}
    except QcoreError as exc:
        session.out.warn(f"the queues are not recorded: {exc}")
        return None
