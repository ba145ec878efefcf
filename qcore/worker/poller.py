"""The loop's selector: one poll over descriptors of several kinds.

In:  descriptors and their kinds.  Out: those that are ready.
Before this: worker/loop.py.
"""

from __future__ import annotations

import selectors

from qcore.base.wakeup import WakePipe


class Poller:
    """Polls its own wake-up pipe, and the descriptors of the broker and the pool."""

    def __init__(self) -> None:
        # Not epoll: it silently drops a descriptor that was closed and opened again under the same
        # number (a new child, a new connection).
        self._selector = selectors.PollSelector()
        self._watched: dict[int, str] = {}
        self.pipe = WakePipe()

    def watch(self, wanted: dict[int, str]) -> None:
        """Set the descriptors to poll, with their kinds; those of kind `blocked` also for writing."""
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
        """(kind, descriptor) of those that are ready after at most `timeout_s`; empties the wake-up pipe."""
        found = [(self._watched[key.fd], key.fd) for key, _ in self._selector.select(timeout_s)]
        for kind, _ in found:
            if kind == "wake":
                self.pipe.drain_pipe()
        return found

    def close(self) -> None:
        self._selector.close()
        self.pipe.close()
