"""Progress of a long operation: one line on stderr, only on a terminal and after QUIET_S."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qctl.cli.session import Session

#: seconds before the line is first shown
QUIET_S = 0.3
EVERY_S = 0.1


class Progress:
    """`with Progress(session, 1000, 'moved') as progress: progress.at(250)`. total 0: unknown."""

    def __init__(self, session: Session, total: int, word: str) -> None:
        self._total, self._word = total, word
        self._on = sys.stderr.isatty() and not session.options.quiet
        self._started = time.monotonic()
        self._next = self._started + QUIET_S
        self._drawn = False

    def __enter__(self) -> Progress:
        return self

    def at(self, done: int) -> None:
        """Report that `done` items are done."""
        now = time.monotonic()
        if not self._on or now < self._next:
            return
        self._next = now + EVERY_S
        rate = done / max(now - self._started, 1e-6)
        share = f" of {self._total:,} ({min(done / self._total, 1):.0%})" if self._total else ""
        left = f", {(self._total - done) / rate:.0f} s left" if self._total > done and rate else ""
        sys.stderr.write(f"\r\x1b[K{done:,}{share} {self._word}, {rate:,.0f}/s{left}")
        sys.stderr.flush()
        self._drawn = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
