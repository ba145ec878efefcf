"""What `qctl beat` and `qctl worker -B` run: our scheduler, or a scheduler class of the project.

In:  the app and the options of the command line.  Out: a Service that publishes the schedule in a thread.
A class of the project (`-S`, `beat_scheduler`), such as that of django-celery-beat, works as under Celery: it
keeps its entries where it likes, and only one process may run it.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from qcore.base.plugins import Registry
from qcore.beat.answers import BeatPidbox
from qcore.errors import mask_url
from qcore.signals import beat_embedded_init, beat_init

log = logging.getLogger("qcore.beat")

#: name -> a class of schedulers; `-S NAME` chooses it. It is made with the app and max_interval_s, run()
#: publishes until stop(). A class with tick() is one as Celery's celery.beat.Scheduler.
schedulers: Registry[Any] = Registry(
    "scheduler", "qcore.schedulers", {"qcore": "qcore.beat.scheduler:Scheduler"}
)
#: seconds between an error of the scheduler in a worker and its next start
AGAIN_S = 5.0
#: the names of Celery's own scheduler, which stand for ours
OURS = ("celery.beat:PersistentScheduler", "celery.beat.PersistentScheduler", "qcore")


class BeatService:
    """start() begins to publish, stop() ends it. `failed` is the error that ended it meanwhile."""

    def __init__(
        self,
        app: Any,
        scheduler: Any = None,
        schedule_filename: str | None = None,
        max_interval_s: float | None = None,
        embedded: bool = True,
        remote_control: bool | None = None,
        hostname: str | None = None,
    ) -> None:
        """remote_control: whether it answers `inspect ping` as the node hostname, by default
        beat_enable_remote_control. Raises ConfigError for a scheduler that cannot be loaded, an entry that is
        wrong, or a broker that keeps no entries."""
        self.app, self._embedded = app, embedded
        self._begins: tuple[Any, ...] = ()
        self._ready: threading.Event | None = None
        self.failed: BaseException | None = None
        self.ended, self._stopping = threading.Event(), threading.Event()
        named = scheduler or app.conf.beat_scheduler or OURS[0]
        max_interval_s = max_interval_s or app.conf.beat_max_loop_interval or None
        self.hostname, self.max_interval = hostname, max_interval_s
        self._ours: Any = None
        if remote_control is None:
            remote_control = app.conf.beat_enable_remote_control
        self._answers: BeatPidbox | None = None
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)
        kind = schedulers.get("qcore" if named in OURS else named) if _is_ours(named) else None
        if kind is not None:
            if schedule_filename:
                log.warning("the file of --schedule is not used: the entries are kept by %s", _place(app))
            ours = self._ours = kind(app, max_interval_s=max_interval_s)
            self._answers = BeatPidbox(self) if remote_control else None
            self.kind = "qcore" if named in OURS else named
            self._loop, self._end, self._ready = ours.run, ours.stop, getattr(ours, "ready", None)
            self._begins = (beat_init, beat_embedded_init) if embedded else (beat_init,)
        else:
            from qcore.beat.classic import Service, scheduler_class

            chosen = schedulers.get(named) if named in schedulers else scheduler_class(named)
            theirs = Service(app, max_interval_s, schedule_filename, chosen, remote_control, hostname)
            self.kind, self._end = chosen.__name__, theirs.stop
            self._loop = lambda: theirs.start(embedded)

    def start(self) -> None:
        for begins in self._begins:
            begins.send(self)
        self._thread.start()
        if self._answers is not None:
            self._answers.start()

    @property
    def effective_max_interval(self) -> float | None:
        """Seconds between two ticks of the scheduler; None: unknown."""
        return getattr(self._ours, "max_interval", None)

    @property
    def _last_tick(self) -> float | None:
        return getattr(self._ours, "last_tick", None)

    def wait_ready(self) -> None:
        """Return when the entries are read, or the scheduler has ended."""
        while self._ready is not None and not self._ready.wait(0.2) and not self.ended.is_set():
            pass

    def words(self) -> str:
        """What runs, for the start."""
        entries = len(self.app.conf.beat_schedule or {})
        if self.kind != "qcore":
            return f"scheduler {self.kind} of the project, {entries} entries in beat_schedule"
        place = self.app.conf.schedule_store or self.app.broker_url()
        return (
            f"qcore scheduler, {entries} entries in beat_schedule; the schedule is kept by {mask_url(place)}"
        )

    def stop(self) -> None:
        self._stopping.set()
        self._end()
        self._thread.join(10.0)
        if self._answers is not None:
            self._answers.stop()

    def _run(self) -> None:
        try:
            self._publish()
        except BaseException as exc:
            self.failed = exc
            if self._embedded:
                log.critical("the scheduler ended: %s", exc, exc_info=exc)
        finally:
            self.ended.set()

    def _publish(self) -> None:
        """Run the loop. In a worker, which would go on without a schedule, it begins again after an error."""
        while True:
            try:
                self._loop()
                return
            except Exception as exc:
                if not self._embedded or self.kind != "qcore" or self._stopping.is_set():
                    raise
                log.critical("the scheduler begins again in %g s: %s", AGAIN_S, exc, exc_info=exc)
            self._stopping.wait(AGAIN_S)


def _is_ours(named: Any) -> bool:
    """Whether it has run() and stop(); all others are classes as Celery's, or their places."""
    if named in OURS:
        return True
    return isinstance(named, str) and named in schedulers and not hasattr(schedulers.get(named), "tick")


def _place(app: Any) -> str:
    return "the store of schedule_store" if app.conf.schedule_store else "the broker"
