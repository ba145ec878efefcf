"""select.poll() for greenlets of eventlet, which deletes the system's instead of replacing it.

In:  descriptors and events.  Out: what the system's poll() says of them; meanwhile other greenlets run.
Before this: patch.py, which puts it into the module `select`.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

_eventlet: Any = importlib.import_module("eventlet")
_hubs: Any = importlib.import_module("eventlet.hubs")
_select: Any = importlib.import_module("eventlet.patcher").original("select")

_READ = _select.POLLIN | _select.POLLPRI
_WRITE = _select.POLLOUT


class GreenPoll:
    """As the object that select.poll() returns."""

    def __init__(self) -> None:
        self._poll = _select.poll()
        self._events: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = _READ | _WRITE) -> None:
        self._poll.register(fd, eventmask)
        self._events[_number(fd)] = eventmask

    def modify(self, fd: Any, eventmask: int) -> None:
        self._poll.modify(fd, eventmask)
        self._events[_number(fd)] = eventmask

    def unregister(self, fd: Any) -> None:
        self._poll.unregister(fd)
        self._events.pop(_number(fd), None)

    def poll(self, timeout: float | None = None) -> Any:
        """(descriptor, events) of those that are ready after at most `timeout` milliseconds; None or a
        negative number: without limit. With 0 no other greenlet runs."""
        if timeout == 0:
            return self._poll.poll(0)
        until = None if timeout is None or timeout < 0 else time.monotonic() + timeout / 1000
        _eventlet.sleep(0)  # else a loop whose descriptors are always ready keeps the others from running
        while not (ready := self._poll.poll(0)):
            left_s = None if until is None else until - time.monotonic()
            if left_s is not None and left_s <= 0:
                break
            self._wait(left_s)
        return ready

    def _wait(self, timeout_s: float | None) -> None:
        """Let other greenlets run until a descriptor may be ready."""
        hub, current = _hubs.get_hub(), _eventlet.getcurrent()
        woken: list[bool] = []

        def wake(fd: int = -1) -> None:
            # The hub calls what it has found before: also after the first call has ended this wait.
            if not woken:
                woken.append(True)
                current.switch()

        listeners: list[Any] = []
        timer = None if timeout_s is None else hub.schedule_call_global(timeout_s, wake)
        try:
            for fd, events in list(self._events.items()):
                if events & _READ:
                    listeners.append(hub.add(hub.READ, fd, wake, current.throw, _forget))
                if events & _WRITE:
                    listeners.append(hub.add(hub.WRITE, fd, wake, current.throw, _forget))
            hub.switch()
        finally:
            woken.append(True)
            for listener in listeners:
                hub.remove(listener)
            if timer is not None:
                timer.cancel()


def _forget() -> None:
    """What the hub calls when a descriptor was closed: the system's poll() tells it."""


def _number(fd: Any) -> int:
    return fd if isinstance(fd, int) else int(fd.fileno())
