"""The tasks of proj.py in a process whose wall clock is off by as many seconds as a file says.

It stands for a clock that is set, or that jumps; the monotonic clock goes on, as it does in life.
"""

from __future__ import annotations

import os
import time

from tests.projects.proj import app

__all__ = ["app"]

OFFSET = os.environ["QCORE_TEST_CLOCK"]

_true_time = time.time


def _shifted() -> float:
    with open(OFFSET) as file:
        return _true_time() + float(file.read())


time.time = _shifted
