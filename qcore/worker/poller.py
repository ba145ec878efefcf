"""What the loop listens to while it sleeps: one poll over descriptors of several kinds.

In:  descriptors and what they are.  Out: those that are ready.
Before this: worker/loop.py.
"""

from __future__ import annotations

import selectors

from qcore.base.wakeup import WakePipe


class Poller:
    """A pipe of its own (`wake`), and what broker and pool want watched."""

    def __init__(self) -> None:
        # Not epoll: a descriptor closed and opened again under the same number (a new child, a new
        # connection) would silently be watched no more.
        self._selector = selectors.PollSelector()
        self._watched: dict[int, str] = {}
        self.pipe = WakePipe()

    def watch(self, wanted: dict[int, str]) -> None:
        """Descriptors and their kinds; `blocked` ones also when they can be written to."""
        wanted[self.pipe.fileno()] = "wake"
        if wanted == self._watched:
            return
        changed = {fd for fd, _ in self._watched.items() ^ wanted.items()}
        for fd in changed & self._watched.keys():
            self._selector.unregister(fd)
        for fd in changed & wanted.keys():
            also = selectors.EVENT_WRITE if wanted[fd] == "blocked" else 0
            self._selector.register(fd, selectors.EVENT_READ | also)
        self._watched = wanted

    def poll(self, timeout_s: float) -> list[tuple[str, int]]:
        """(kind, descriptor) of those that are ready; rings of the pipe only end the wait."""
        found = [(self._watched[key.fd], key.fd) for key, _ in self._selector.select(timeout_s)]
        for kind, _ in found:
            if kind == "wake":
                self.pipe.drain_pipe()
        return found
