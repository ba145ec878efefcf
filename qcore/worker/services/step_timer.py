"""The timer that steps get: `worker.timer`, with the methods of Celery's.

In:  functions and times.  Out: their calls, in a thread of the timer's own, so a slow one delays only the
others. An error of a function is logged, and its next call comes.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

log = logging.getLogger("qcore.worker")


class Entry:
    """One planned call, or one that repeats; cancel() ends it."""

    __slots__ = ("args", "canceled", "every_s", "fun", "kwargs")

    def __init__(
        self,
        fun: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        every_s: float | None = None,
    ) -> None:
        self.fun, self.args, self.kwargs, self.every_s = fun, tuple(args), dict(kwargs or {}), every_s
        self.canceled = False

    @property
    def cancelled(self) -> bool:
        return self.canceled

    @property
    def tref(self) -> Entry:
        return self

    def cancel(self) -> None:
        self.canceled = True

    def __call__(self) -> Any:
        return self.fun(*self.args, **self.kwargs)


class Timer:
    """Calls functions later. Its thread starts with the first entry."""

    def __init__(self, on_exit: Callable[[SystemExit], None] | None = None) -> None:
        """on_exit: what becomes of SystemExit that a function raises."""
        self._on_exit = on_exit
        self._queue: list[tuple[float, int, int, Entry]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def call_after(
        self,
        secs: float,
        fun: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        priority: int = 0,
    ) -> Entry:
        """Call `fun` once, after so many seconds. Of two that are due, the one of the lower priority number
        is called first."""
        return self._add(Entry(fun, args, kwargs), secs, priority)

    def call_repeatedly(
        self,
        secs: float,
        fun: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        priority: int = 0,
    ) -> Entry:
        """Call `fun` every so many seconds, first after that time."""
        return self._add(Entry(fun, args, kwargs, float(secs)), secs, priority)

    def call_at(
        self,
        eta: float,
        fun: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        priority: int = 0,
    ) -> Entry:
        """Call `fun` once, at this time in epoch seconds."""
        return self.call_after(eta - time.time(), fun, args, kwargs, priority)

    def cancel(self, entry: Entry) -> None:
        entry.cancel()

    def clear(self) -> None:
        """Drop all entries."""
        with self._changed:
            self._queue.clear()

    def stop(self) -> None:
        """Call nothing any more. A function that runs now is not waited for beyond a second."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def _add(self, entry: Entry, secs: float, priority: int) -> Entry:
        with self._changed:
            place = (time.monotonic() + max(secs, 0.0), priority, next(self._numbers), entry)
            heapq.heappush(self._queue, place)
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._serve, name="timer", daemon=True)
                self._thread.start()
            self._changed.notify()
        return entry

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._stopped and (pause_s := self._pause_s()) != 0:
                    self._changed.wait(pause_s)
                if self._stopped:
                    return
                _, priority, _, entry = heapq.heappop(self._queue)
            if entry.canceled:
                continue
            try:
                entry()
            except SystemExit as exc:
                if self._on_exit is not None:
                    self._on_exit(exc)
            except Exception as exc:
                log.exception("a function of the timer raised %r: %r", exc, entry.fun)
            if entry.every_s is not None and not entry.canceled:
                self._add(entry, entry.every_s, priority)

    def _pause_s(self) -> float | None:
        """Seconds until the first entry is due, 0 when it is; None without entries."""
        while self._queue and self._queue[0][3].canceled:
            heapq.heappop(self._queue)
        return max(self._queue[0][0] - time.monotonic(), 0) if self._queue else None
