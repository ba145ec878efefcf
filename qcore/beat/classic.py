"""Celery's `celery.beat`: what runs a scheduler class of the project or of a package, such as that of
django-celery-beat.

In:  the app and a scheduler class.  Out: its tasks, published until stop(). As under Celery only one process
may run it. Before this: `qctl beat -S`, `qctl worker -B`.  After this: classic_scheduler.py.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import threading
import time
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any

from qcore.app.sources import imported
from qcore.beat.answers import BeatPidbox
from qcore.beat.classic_file import PersistentScheduler
from qcore.errors import ConfigError
from qcore.signals import beat_embedded_init, beat_init

log = logging.getLogger("qcore.beat")

#: the entry points by which packages name their scheduler classes: `django`
NAMESPACE = "celery.beat_schedulers"
#: a scheduler in a thread of another program looks this often whether it has to stop
_EMBEDDED_MAX_INTERVAL = 1


class Service:
    """start() publishes the tasks of a scheduler, in this thread, until stop(), Ctrl-C or SystemExit."""

    scheduler_cls: Any = PersistentScheduler

    def __init__(
        self,
        app: Any,
        max_interval: float | None = None,
        schedule_filename: str | None = None,
        scheduler_cls: Any = None,
        remote_control: bool | None = None,
        hostname: str | None = None,
    ) -> None:
        """scheduler_cls: a class, its dotted name, or the name of an entry point of NAMESPACE.
        remote_control: whether it answers `inspect ping` as the node hostname, by default
        beat_enable_remote_control."""
        self.app = app
        self.max_interval = max_interval or app.conf.beat_max_loop_interval
        self.scheduler_cls = scheduler_cls or self.scheduler_cls
        self.schedule_filename = schedule_filename or app.conf.beat_schedule_filename
        if remote_control is None:
            remote_control = app.conf.beat_enable_remote_control
        self.remote_control, self.hostname = remote_control, hostname
        self.effective_max_interval: float | None = None  # the scheduler's own, once there is one
        self._pidbox: BeatPidbox | None = None
        self._last_tick: float | None = None  # in monotonic time
        self._is_shutdown, self._is_stopped = threading.Event(), threading.Event()

    def __reduce__(self) -> Any:
        named = self.schedule_filename, self.scheduler_cls, self.remote_control, self.hostname
        return type(self), (self.app, self.max_interval, *named)

    def start(self, embedded_process: bool = False) -> None:
        """Raises ConfigError for a scheduler class that cannot be loaded, and what the class raises."""
        scheduler = self.scheduler
        log.info("the scheduler %s starts", type(scheduler).__name__)
        beat_init.send(self)
        if embedded_process:
            beat_embedded_init.send(self)
        self.effective_max_interval = getattr(scheduler, "max_interval", None)
        self._last_tick = time.monotonic()
        if self.remote_control:
            self._pidbox = BeatPidbox(self)
            self._pidbox.start()
        try:
            while not self._is_shutdown.is_set():
                pause_s = scheduler.tick()
                self._last_tick = time.monotonic()
                if pause_s and pause_s > 0:
                    log.debug("the next look is in %.2f s", pause_s)
                    self._is_shutdown.wait(pause_s)
                    if scheduler.should_sync():
                        scheduler._do_sync()
        except (KeyboardInterrupt, SystemExit):
            self._is_shutdown.set()
        finally:
            self.sync()
            if self._pidbox is not None:
                self._pidbox.stop()

    def sync(self) -> None:
        """Close the scheduler, which saves the state of its entries."""
        try:
            self.scheduler.close()
        finally:
            self._is_stopped.set()

    def stop(self, wait: bool = False) -> None:
        """End start(), from another thread or a signal handler. wait: until it has ended."""
        log.info("the scheduler stops")
        self._is_shutdown.set()
        stopping = getattr(self.__dict__.get("scheduler"), "stopping", None)
        if stopping is not None:
            stopping.set()
        if wait:
            self._is_stopped.wait()

    def get_scheduler(self, lazy: bool = False, extension_namespace: str = NAMESPACE) -> Any:
        """A scheduler of the class. Raises ConfigError."""
        return scheduler_class(self.scheduler_cls, extension_namespace)(
            app=self.app,
            schedule_filename=self.schedule_filename,
            max_interval=self.max_interval,
            lazy=lazy,
        )

    @cached_property
    def scheduler(self) -> Any:
        return self.get_scheduler()


def scheduler_class(named: Any, namespace: str = NAMESPACE) -> Any:
    """A class, or the one of this dotted name or entry point. Raises ConfigError."""
    if not isinstance(named, str):
        return named
    points = {point.name: point for point in entry_points(group=namespace)}
    if named in points:
        return points[named].load()
    module, _, name = named.partition(":") if ":" in named else named.rpartition(".")
    try:
        return imported(f"{module}:{name}")
    except (ImportError, ValueError) as exc:
        known = f" or one of: {', '.join(sorted(points))}" if points else ""
        raise ConfigError(
            f"the scheduler class '{named}' cannot be loaded: {exc}; write module:Class{known}"
        ) from exc


class _Threaded(threading.Thread):
    """A Service in a thread."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(name="Beat", daemon=True)
        self.app, self.service = app, Service(app, **options)

    def run(self) -> None:
        self.app.set_current()
        self.service.start()

    def stop(self) -> None:
        self.service.stop(wait=True)


_forked: Any = (
    multiprocessing.get_context("fork") if "fork" in multiprocessing.get_all_start_methods() else None
)


class _Process(_forked.Process if _forked else object):  # type: ignore[misc]
    """A Service in a process of its own, which ends with its parent's terminate()."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(name="Beat", daemon=True)
        self.app, self.service = app, Service(app, **options)

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C; the parent tells it to stop
        self.app.set_current()
        self.service.start(embedded_process=True)

    def stop(self) -> None:
        self.terminate()
        self.join()


def EmbeddedService(app: Any, max_interval: float | None = None, **kwargs: Any) -> Any:
    """A Service with start() and stop() beside another program; thread: in a thread instead of a process."""
    kwargs.setdefault("remote_control", False)
    if kwargs.pop("thread", False) or _forked is None:
        return _Threaded(app, max_interval=_EMBEDDED_MAX_INTERVAL, **kwargs)
    return _Process(app, max_interval=max_interval, **kwargs)
