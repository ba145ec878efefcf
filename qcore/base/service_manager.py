"""What a process reports to systemd (sd_notify): that it is ready, stops, or lives, and its state in words.

In:  NOTIFY_SOCKET and WATCHDOG_USEC, which systemd sets for units with Type=notify.  Out: datagrams to that
socket. Without NOTIFY_SOCKET nothing is sent. Standard library only.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger("qcore.service")


class ServiceManager:
    """Sends each state once, when it changes. Used by one thread.

    every_s: the longest time between two calls of alive() that the watchdog allows; infinite without one."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environ is None else environ
        place = variables.get("NOTIFY_SOCKET", "")
        #: an abstract socket is written with '@', and begins with a zero byte
        self._address = f"\0{place[1:]}" if place.startswith("@") else place
        self._said = ""
        self._status = ""
        self._failed = False
        self._lived_at = -math.inf
        self.every_s = _half_of_watchdog(variables) if place else math.inf

    def ready(self, status: str) -> None:
        """Report that the process works, or its new status when that was reported before."""
        self._report("READY=1", status)

    def stopping(self, status: str) -> None:
        """Report that the process stops; ready() has no effect from then on."""
        self._report("STOPPING=1", status)

    def alive(self) -> None:
        """Report that the process lives, if the watchdog is to hear of it again."""
        if self.every_s == math.inf:
            return
        now = time.monotonic()
        if now - self._lived_at >= self.every_s / 2:  # half: the next call may come every_s later
            self._lived_at = now
            self._send("WATCHDOG=1")

    def _report(self, state: str, status: str) -> None:
        if not self._address or (state == "READY=1" and self._said == "STOPPING=1"):
            return
        lines = [] if state == self._said else [state]
        lines += [] if status == self._status else [f"STATUS={status}"]
        self._said, self._status = state, status
        if lines:
            self._send("\n".join(lines))

    def _send(self, text: str) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)
                out.sendto(text.encode(), self._address)
        except OSError as exc:
            if not self._failed:
                log.warning("the service manager at NOTIFY_SOCKET cannot be reached: %s", exc)
            self._failed = True


def _half_of_watchdog(variables: Mapping[str, str]) -> float:
    """Half of WATCHDOG_USEC in seconds; infinite where it is not set, or meant for another process."""
    text, pid = variables.get("WATCHDOG_USEC", ""), variables.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or pid not in ("", str(os.getpid())):
        return math.inf
    return int(text) / 2_000_000
