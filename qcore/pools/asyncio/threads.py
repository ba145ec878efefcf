"""Threads for the plain functions of the asyncio pool: created on demand, reused, abandoned at exit.

Not concurrent.futures: with it a process waits for its threads at exit, however long they take.
"""

from __future__ import annotations

import ctypes
import queue
import threading
from collections.abc import Callable
from typing import Any


class Stopped(BaseException):
    """Raised inside a function that is to stop."""


def interrupt(ident: int) -> None:
    """Raise Stopped in a thread, at its next bytecode: code blocked in C receives it when it returns."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Stopped))


class Threads:
    """As many threads as there are running functions."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[Any], None], Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = self._count = 0

    def submit(self, function: Callable[[Any], None], argument: Any) -> None:
        """Call function(argument) in a thread, at once."""
        with self._lock:
            fresh = self._idle == 0
            if fresh:
                self._count += 1
            else:
                self._idle -= 1
        self._work.put((function, argument))
        if fresh:
            threading.Thread(target=self._serve, name=f"asyncio-pool-{self._count}", daemon=True).start()

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work[0](work[1])
            except Stopped:
                pass  # it arrived after its function had ended
            with self._lock:
                self._idle += 1

    def stop(self) -> None:
        for _ in range(self._count):
            self._work.put(None)
