"""The eventlet pool: tasks run in greenlets of eventlet, hundreds at once, for code that waits on sockets.

As in Celery, the greenlets share the worker's thread: a task that computes, or waits in a library that is not
patched, delays everything, the renewal of the lease too. eventlet's locks do not work across threads, so the
greenlets cannot have a thread of their own, as those of gevent have. `qctl worker -P eventlet` patches the
standard library before the app is imported (patch.py); from Python the caller does it.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from qcore.errors import ConfigError, Malformed, SoftTimeLimitExceeded
from qcore.pools.base import PoolSetup
from qcore.pools.eventlet import patch
from qcore.pools.greenlets import GreenPool, RunningGreenlet
from qcore.pools.stacks import Thread
from qcore.signals import (
    eventlet_pool_apply,
    eventlet_pool_postshutdown,
    eventlet_pool_preshutdown,
    eventlet_pool_started,
)
from qcore.tasks.joins import waiting_blocks
from qcore.wire import task as task_wire
from qcore.wire.envelope import body_bytes
from qcore.wire.outcome import Job


@contextmanager
def greenlet_limit(seconds: float) -> Iterator[None]:
    """The soft limit: raises where the greenlet waits."""
    eventlet: Any = importlib.import_module("eventlet")
    with eventlet.Timeout(seconds, SoftTimeLimitExceeded()):
        yield


class EventletPool(GreenPool):
    """Run tasks in greenlets of the worker's thread."""

    name: ClassVar[str] = "eventlet"

    def __init__(self, setup: PoolSetup) -> None:
        if not patch.is_patched():
            raise ConfigError(
                "the eventlet pool needs a patched standard library: start it with "
                "`qctl worker -P eventlet`, or call qcore.pools.patch_for('eventlet') before any other import"
            )
        self._eventlet: Any = importlib.import_module("eventlet")
        super().__init__(setup, greenlet_limit, importlib.import_module("greenlet").GreenletExit)
        self._closed = False

    def start(self) -> None:
        if self.setup.before_run is not None:
            self.setup.before_run()
        waiting_blocks(False)  # a greenlet that waits lets the others run
        self._thread = Thread(threading.get_ident(), threading.get_native_id())
        eventlet_pool_started.send(self)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            eventlet_pool_preshutdown.send(self)

    def stop(self) -> None:
        if not self._stopping:
            self.close()
            super().stop()
            eventlet_pool_postshutdown.send(self)

    def _soon(self, what: Callable[[], None]) -> None:
        what()  # all are in this thread

    def _spawn(self, flight: RunningGreenlet) -> Any:
        if eventlet_pool_apply.receivers:
            self._announce(flight.job)
        greenlet = self._eventlet.spawn(self._run, flight)
        greenlet.link(lambda _: self._gone(flight))
        return greenlet

    def _kill(self, greenlet: Any) -> None:
        greenlet.kill()

    def _announce(self, job: Job) -> None:
        """Tell receivers of a run before it begins, with the arguments with which Celery begins it."""
        try:
            message = task_wire.read(job.raw)
            envelope = message.envelope
            body = body_bytes(envelope)
        except Malformed:
            return  # the run says so
        kinds = envelope.content_type, envelope.content_encoding
        args = (message.task, message.id, dict(message.headers), body, *kinds)
        eventlet_pool_apply.send(self, target=self._run, args=args, kwargs={})
