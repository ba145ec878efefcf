"""The gevent pool: tasks run in greenlets, hundreds at once, for code that waits on sockets.

The greenlets have their own thread and hub, so that a task that computes delays other tasks
but neither the worker's loop nor its lease. `qctl worker -P gevent` patches the standard library before
the app is imported (patch.py); from Python the caller does it.
"""

from __future__ import annotations

import _thread
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from qcore.errors import ConfigError, SoftTimeLimitExceeded
from qcore.pools.base import PoolSetup
from qcore.pools.gevent import patch
from qcore.pools.greenlets import GreenPool, RunningGreenlet
from qcore.pools.stacks import Thread
from qcore.tasks.joins import waiting_blocks


@contextmanager
def greenlet_limit(seconds: float) -> Iterator[None]:
    """The soft limit: raises where the greenlet waits."""
    gevent: Any = importlib.import_module("gevent")
    with gevent.Timeout(seconds, SoftTimeLimitExceeded()):
        yield


class GeventPool(GreenPool):
    """Run tasks in greenlets of one thread."""

    name: ClassVar[str] = "gevent"

    def __init__(self, setup: PoolSetup) -> None:
        if not patch.is_patched():
            raise ConfigError(
                "the gevent pool needs a patched standard library: start it with `qctl worker -P gevent`, or "
                "call gevent.monkey.patch_all() before anything else is imported"
            )
        self._gevent: Any = importlib.import_module("gevent")
        super().__init__(setup, greenlet_limit, self._gevent.GreenletExit)

    def start(self) -> None:
        if self.setup.before_run is not None:
            self.setup.before_run()
        monkey: Any = importlib.import_module("gevent.monkey")
        self._hub: Any = None
        self._ident = monkey.get_original("_thread", "get_ident")
        ready_r, ready_w = os.pipe()
        # A system thread: `threading` creates greenlets now.
        monkey.get_original("_thread", "start_new_thread")(self._serve, (ready_w,))
        os.read(ready_r, 1)
        os.close(ready_r)

    # --- in the greenlets' thread

    def _serve(self, ready: int) -> None:
        self._thread = Thread(self._ident(), _thread.get_native_id())
        waiting_blocks(False)  # a greenlet that waits lets the others run
        self._hub = self._gevent.get_hub()
        os.write(ready, b"x")
        os.close(ready)
        while not self._stopping:
            self._gevent.sleep(0.5)  # keeps the hub running; callbacks run in between

    def _soon(self, what: Callable[[], None]) -> None:
        self._hub.loop.run_callback_threadsafe(what)

    def _spawn(self, flight: RunningGreenlet) -> Any:
        greenlet = self._gevent.spawn(self._run, flight)
        greenlet.rawlink(lambda _: self._gone(flight))
        return greenlet

    def _kill(self, greenlet: Any) -> None:
        greenlet.kill(block=False)
