"""Soft time limits: context managers that raise SoftTimeLimitExceeded in code that runs too long."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from qcore.errors import SoftTimeLimitExceeded


@contextmanager
def alarm_limit(seconds: float) -> Iterator[None]:
    """With SIGALRM: exact, interrupts system calls. Outside the main thread it uses thread_limit()."""
    if threading.current_thread() is not threading.main_thread():
        with thread_limit(seconds):
            yield
        return

    def too_long(signum: int, frame: FrameType | None) -> None:
        raise SoftTimeLimitExceeded()

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def thread_limit(seconds: float) -> Iterator[None]:
    """In any thread, between two bytecodes: a blocking C call is interrupted only after it returns."""
    import ctypes  # the children of a prefork worker get it from their fork server

    ident = ctypes.c_ulong(threading.get_ident())
    over = threading.Lock()
    finished = False

    def too_long() -> None:
        with over:
            if not finished:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SoftTimeLimitExceeded))

    timer = threading.Timer(seconds, too_long)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with over:
            finished = True
        timer.cancel()
