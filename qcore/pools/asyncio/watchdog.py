"""The watchdog of the asyncio pool: it names the task that blocks the event loop.

In:  look(), called a few times a second by the worker's thread.  Out: a warning in the log.
A callback is scheduled on the loop; if it has not run after HELD_S, the thread's stack shows what blocks it.
"""

from __future__ import annotations

import asyncio
import linecache
import logging
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

log = logging.getLogger("qcore.worker")

HELD_S = 1.0


class Watchdog:
    """Watches one loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread: threading.Thread,
        named: Callable[[], dict[Any, str]],
    ) -> None:
        self._loop, self._thread, self._named = loop, thread, named
        self._asked_at: float | None = None
        self._warned = False

    def look(self, busy: bool) -> None:
        """Check whether the loop still runs callbacks."""
        now = time.monotonic()
        if self._asked_at is None:
            if busy:
                self._asked_at = now
                self._loop.call_soon_threadsafe(self._answer)
        elif now - self._asked_at > HELD_S and not self._warned:
            self._warned = True
            self._warn(now - self._asked_at)

    def _answer(self) -> None:
        if self._warned and self._asked_at is not None:
            log.warning("the event loop is responsive again after %.1f s", time.monotonic() - self._asked_at)
        self._asked_at, self._warned = None, False

    def _warn(self, held_s: float) -> None:
        named = self._named()
        task = asyncio.current_task(self._loop)
        who = named.get(task)
        if who is None:
            some = ", ".join(list(named.values())[:3]) or "no task"
            what = (
                getattr(task.get_coro(), "__qualname__", task.get_name())
                if task is not None
                else "a callback"
            )
            who = f"{what} (started by one of: {some})"
        frame = sys._current_frames().get(self._thread.ident or 0)
        log.warning(
            "the event loop is blocked for %.1f s by %s, at %s; use await, or a plain function",
            held_s,
            who,
            _where(frame),
        )


def _where(frame: FrameType | None) -> str:
    """The innermost line of Python code."""
    if frame is None:
        return "an unknown place"
    code = frame.f_code
    line = linecache.getline(code.co_filename, frame.f_lineno).strip()
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_name}: {line}"
