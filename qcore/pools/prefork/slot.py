"""The shared words of one child: its running job, the start time, and the token that guards them; and the
pipe through which it tells its stack."""

from __future__ import annotations

import mmap
import os
import select
import threading
import time

WORDS = 8  # of 64 bits, per slot


MAX_SLOTS = 512


# What the words mean: the sequence number of the last job that was started, its start in microseconds
# of the monotonic clock (0: it is over), and the first and last sequence number that were taken back.
# And the last job that the child has looked at, whether it was to start or not: a sign of life.
CURRENT, SINCE, FIRST, LAST, SEEN = range(5)
#: SEEN of a child that is being started
NOT_YET = -1
SLOTS_BYTES = 8 * WORDS * MAX_SLOTS


class Slot:
    """One child's part of the shared memory, guarded by a token in a pipe.

    The holder of the token may compare the two halves: the child to decide that it starts a job, the
    parent to decide that it takes jobs back. So a job that was taken back never starts, and one
    that started is never taken back.
    """

    __slots__ = ("_holds", "_token_r", "_token_w", "_words")

    def __init__(self, memory: mmap.mmap, index: int, token_r: int, token_w: int) -> None:
        # One aligned word is stored in one instruction, so a reader without the token never sees half
        # of one (struct.pack_into would clear the bytes first).
        self._words = memoryview(memory).cast("q")[index * WORDS : (index + 1) * WORDS]
        self._token_r, self._token_w = token_r, token_w
        self._holds = False  # the parent has the token, for longer than one decision

    def tokens(self) -> tuple[int, int]:
        """Both ends of the token's pipe."""
        return self._token_r, self._token_w

    def clear(self, is_ready: bool = True) -> None:
        """Reset for a new child: no job runs, none was taken back. is_ready: it need not say begin()."""
        for word in (CURRENT, SINCE, FIRST, LAST, SEEN):
            self._words[word] = 0
        if not is_ready:
            self._words[SEEN] = NOT_YET

    # --- the child
    def begin(self) -> None:
        """It takes jobs from now on."""
        self._words[SEEN] = 0

    def start(self, seq: int) -> bool:
        """Record `seq` as running; False when it was taken back."""
        while True:
            try:
                os.read(self._token_r, 1)
                break
            except BlockingIOError:  # the parent holds it, for microseconds
                select.select([self._token_r], [], [])
        words = self._words
        words[SEEN] = seq
        mine = not words[FIRST] <= seq <= words[LAST]
        if mine:
            words[CURRENT] = seq
            words[SINCE] = int(time.monotonic() * 1e6)
        os.write(self._token_w, b"x")
        return mine

    def finish(self) -> None:
        self._words[SINCE] = 0

    # --- the parent
    def current(self) -> tuple[int, float]:
        """The last job that was started, and since when it runs (0.0: it has ended)."""
        words = self._words
        return words[CURRENT], words[SINCE] / 1e6

    def seen(self) -> int:
        """The last job that the child has read; NOT_YET while it is being started."""
        return self._words[SEEN]

    def take_back(self, last: int) -> int | None:
        """Take back every job up to `last` that has not started. The last one that has started, or
        None when the child is deciding just now (try again)."""
        held = self._holds
        if not self.hold():
            return None
        words = self._words
        started = words[CURRENT]
        words[FIRST], words[LAST] = started + 1, last
        if not held:
            self.release()
        return started

    def hold(self) -> bool:
        """Take the token and keep it: until release() the child starts nothing. False when the child is
        deciding just now (try again)."""
        if not self._holds:
            try:
                os.read(self._token_r, 1)
            except BlockingIOError:
                return False
            self._holds = True
        return True

    def release(self) -> None:
        """Give the token back; nothing when it is not held."""
        if self._holds:
            self._holds = False
            os.write(self._token_w, b"x")


def token_pipe() -> tuple[int, int]:
    """A pipe with one token in it; reading from it never blocks."""
    r, w = os.pipe()
    os.set_blocking(r, False)
    os.write(w, b"x")
    return r, w


class StackPipe:
    """The reading end of the pipe through which a child tells its stack. The loop's thread closes it while
    the control thread may read, and the number of a closed descriptor is soon that of another file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._lock = threading.Lock()

    @classmethod
    def open(cls) -> tuple[StackPipe, int]:
        """A new pipe, and its writing end, for the child."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        return cls(reading), writing

    def duplicate(self) -> int | None:
        """Another descriptor of it, which the caller closes; None when it is closed."""
        with self._lock:
            return None if self._descriptor is None else os.dup(self._descriptor)

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor = None
