"""`-w`: do a command again and again.

In:  a command that only looks, and the time between two looks.  Out: on a terminal the newest answer
in place of the one before; elsewhere one answer after the other; with -o ndjson a line for each item
that has changed.  Ctrl-C ends it.  Before this: cli/command.py.
"""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import TextIO

from qctl import exit_codes
from qctl.cli.session import Session
from qctl.output.text import stamp

#: what another look does not change
LASTING = (exit_codes.USAGE, exit_codes.REFUSED, exit_codes.BAD_CONFIG, exit_codes.NOT_PERMITTED)

HOME, TO_LINE_END, TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"
WRAP_OFF, WRAP_ON = "\x1b[?7l", "\x1b[?7h"


class Frame(io.StringIO):
    """What a command prints for one look at a terminal; it is told that this is the terminal."""

    def __init__(self, terminal: TextIO) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.terminal.encoding


def watch(session: Session, title: str, look: Callable[[], object], every_s: float) -> int:
    """Look until Ctrl-C; the exit code: 0 once there was an answer. Raises what another look would only
    say again: wrong usage, bad configuration."""
    shows = _on_terminal if sys.stdout.isatty() and session.out.for_people else _one_after_the_other
    session.out.printed = {} if session.out.format == "ndjson" else None
    seen = False
    try:
        while True:
            shows(session, title, look, not seen)
            seen = True
            time.sleep(every_s)
    except KeyboardInterrupt:
        if not seen:
            raise
    return exit_codes.OK


def _looked(session: Session, look: Callable[[], object]) -> None:
    """One look; what went wrong is said, and the next look may go better."""
    from qctl.cli.print_error import print_error

    try:
        look()
    except Exception as exc:
        stop = exit_codes.explain(exc)
        if stop is None or stop.code in LASTING:
            raise
        print_error(stop, session)


def _on_terminal(session: Session, title: str, look: Callable[[], object], first: bool) -> None:
    terminal = sys.stdout
    frame = Frame(terminal)
    with redirect_stdout(frame), redirect_stderr(frame):
        _looked(session, look)
    room = max(2, shutil.get_terminal_size().lines)
    lines = [f"{title}  {stamp(time.time(), fraction=False)}", "", *frame.getvalue().splitlines()]
    if len(lines) > room:
        lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more lines"]
    # Each line is written over the one before and then cleared to its end, so nothing flickers.
    text = f"{TO_LINE_END}\n".join(lines)
    start = HOME + (TO_SCREEN_END if first else "")
    terminal.write(f"{start}{WRAP_OFF}{text}{TO_LINE_END}{WRAP_ON}{TO_SCREEN_END}")
    terminal.flush()


def _one_after_the_other(session: Session, title: str, look: Callable[[], object], first: bool) -> None:
    if not first and session.out.for_people:
        sys.stdout.write("\n")
    _looked(session, look)
    sys.stdout.flush()
