"""A pipe that wakes a loop from other threads and from signal handlers."""

from __future__ import annotations

import os
import posix  # its read and write: eventlet puts others into `os`, which wait, as a signal handler cannot
import signal


class WakePipe:
    """Its read end is readable from ring() until hush()."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def install_wakeup_fd(self) -> None:
        """Make signals wake it as well (main thread only)."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def ring(self) -> None:
        """Wake the waiting loop; safe in a signal handler, and after close()."""
        try:
            posix.write(self._write, b"x")
        except OSError:
            pass  # it already holds enough wake-ups, or is closed

    def drain_pipe(self) -> bool:
        """Make it unreadable; returns whether it was rung."""
        try:
            return bool(posix.read(self._read, 65_536))
        except BlockingIOError:
            return False

    def __del__(self) -> None:
        if self._read >= 0:
            self.close()

    def close(self) -> None:
        ends, self._read, self._write = (self._read, self._write), -1, -1
        for end in ends:
            os.close(end)
