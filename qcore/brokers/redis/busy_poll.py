"""Busy-poll the socket for a moment before blocking.

A process that sleeps until a server on the same host, or next to it, answers is woken later than the
answer arrives: on a virtual machine going to sleep and waking up take several times as long as the
answer. Polling for a moment costs less processor time than sleeping does. Where answers take longer than
that moment, polling stops, and is tried again now and then. A process that has nothing else to do polls for a
longer moment.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from qcore.base.processors import usable_processors

SPIN_S, IDLE_SPIN_S = 100e-6, 300e-6
#: after LATE_MOST answers that came too late, ASLEEP answers are waited for without polling
LATE_MOST, ASLEEP = 4, 64


class BusyPoll:
    """For one connection. wait() returns when there is an answer, or when blocking is better."""

    __slots__ = ("_asleep", "_late")

    def __init__(self) -> None:
        self._late = 0
        # With one processor the answer cannot come while we look for it.
        self._asleep = 0 if usable_processors() > 1 else -1

    def wait(
        self, poll: Callable[[int], Any], spin_s: float = SPIN_S, now: Callable[[], float] = perf_counter
    ) -> None:
        """poll(0) returns whether there is an answer. spin_s: the longest time of polling."""
        if self._asleep:
            self._asleep -= self._asleep > 0
            return
        until = now() + spin_s
        while not poll(0):
            if now() >= until:
                self._late += 1
                if self._late >= LATE_MOST:
                    self._late, self._asleep = LATE_MOST - 1, ASLEEP
                return
        self._late = 0
