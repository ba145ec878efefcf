"""`-w`: repeat a command.

In:  a command without changes, and the seconds between two runs.  Out: on a terminal the newest answer
replaces the previous one; elsewhere answers follow each other; with -o ndjson one line for each changed
item.  Ctrl-C ends it.  Before this: cli/command.py.
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

#: exit codes of errors that a repetition would not change
LASTING = (exit_codes.USAGE, exit_codes.REFUSED, exit_codes.BAD_CONFIG, exit_codes.NOT_PERMITTED)

HOME, TO_LINE_END, TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"
WRAP_OFF, WRAP_ON = "\x1b[?7l", "\x1b[?7h"


class Frame(io.StringIO):
    """Captures the output of one run; reports itself as a terminal."""

    def __init__(self, terminal: TextIO) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.terminal.encoding


def watch(session: Session, title: str, look: Callable[[], object], every_s: float) -> int:
    """Repeat `look` until Ctrl-C; return 0 if there was an answer. Raises errors that a repetition would not
    change: wrong usage, bad configuration."""
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
    """Run once; print an error and go on, unless a repetition would not change it."""
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
    # Each line overwrites the previous one and is then cleared to its end, so that nothing flickers.
    text = f"{TO_LINE_END}\n".join(lines)
    start = HOME + (TO_SCREEN_END if first else "")
    terminal.write(f"{start}{WRAP_OFF}{text}{TO_LINE_END}{WRAP_ON}{TO_SCREEN_END}")
    terminal.flush()


def _one_after_the_other(session: Session, title: str, look: Callable[[], object], first: bool) -> None:
    if not first and session.out.for_people:
        sys.stdout.write("\n")
    _looked(session, look)
    sys.stdout.flush()
