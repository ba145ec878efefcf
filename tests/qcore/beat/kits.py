"""Celery's `celery.beat` and ours, for tests that run the same lines on both, with clocks and schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import celery
import celery.beat
import celery.schedules
import celery.signals

import qcore.celery.app
import qcore.schedules
import qcore.signals
from qcore.beat import classic, classic_entry, classic_file, classic_scheduler

THEIRS = SimpleNamespace(
    name="celery",
    Celery=celery.Celery,
    Scheduler=celery.beat.Scheduler,
    PersistentScheduler=celery.beat.PersistentScheduler,
    Entry=celery.beat.ScheduleEntry,
    Lazy=celery.beat.BeatLazyFunc,
    SchedulingError=celery.beat.SchedulingError,
    Service=celery.beat.Service,
    Embedded=celery.beat.EmbeddedService,
    schedules=celery.schedules,
    signals=celery.signals,
)
OURS = SimpleNamespace(
    name="qcore",
    Celery=qcore.celery.app.Celery,
    Scheduler=classic_scheduler.Scheduler,
    PersistentScheduler=classic_file.PersistentScheduler,
    Entry=classic_entry.ScheduleEntry,
    Lazy=classic_entry.BeatLazyFunc,
    SchedulingError=classic_entry.SchedulingError,
    Service=classic.Service,
    Embedded=classic.EmbeddedService,
    schedules=qcore.schedules,
    signals=qcore.signals,
)
KITS = [OURS, THEIRS]
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def make_app(kit: Any, url: str, **settings: Any) -> Any:
    app = kit.Celery("project", broker=url, backend=url, set_as_current=False)
    app.conf.update(settings)
    return app


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time

    def go(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def recording(kit: Any, base: Any = None) -> Any:
    """A scheduler class that publishes nothing and notes what it would publish."""

    class Recording(base or kit.Scheduler):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.sent: list[Any] = []
            super().__init__(*args, **kwargs)

        producer = None

        def send_task(self, name: str, args: Any, kwargs: Any, **options: Any) -> Any:
            options.pop("producer", None)
            options.pop("task_id", None)
            options.pop("retry", None)
            self.sent.append((name, list(args), dict(kwargs), options))

    return Recording


class Line:
    """A schedule that is due at given seconds after the start, once each."""

    def __init__(self, clock: Clock, *seconds: float) -> None:
        self.clock, self.times = clock, [START + timedelta(seconds=s) for s in seconds]
        self.app: Any = None

    def now(self) -> datetime:
        return self.clock()

    def is_due(self, last_run_at: datetime) -> tuple[bool, float]:
        left = [t for t in self.times if t > last_run_at]
        if not left:
            return False, 1000.0
        if left[0] > self.clock():
            return False, (left[0] - self.clock()).total_seconds()
        later = [t for t in left if t > self.clock()]
        return True, (later[0] - self.clock()).total_seconds() if later else 1000.0
