"""One picture of a fleet, frozen: panes draw it and know nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from qcore.events.store.table import TaskSeen
from qcore.wire.event import finite_number
from qctl.dashboard.state.series import Charts

#: seconds by which clocks may seem to differ before it is said
LEAST_SKEW_S = 2.0


class WorkerRow(msgspec.Struct, frozen=True):
    """One worker."""

    node: str
    state: str  # online, silent, gone
    running: int | None = None
    slots: int | None = None
    done: int | None = None
    held: int | None = None  # messages it holds and has not started
    load: float | None = None
    age_s: float | None = None  # since its last sign of life
    queues: tuple[str, ...] = ()
    software: str = ""
    pid: int | None = None
    missed: int = 0  # events of it that never arrived
    stats: dict[str, Any] = {}
    exact: bool = True  # its numbers are its own answer; else what its events add up to
    per_s: float | None = None  # tasks that it began lately, by its own count
    failed: int = 0  # tasks, since we listen
    skew_s: float | None = None  # its clock minus ours

    @property
    def draining(self) -> bool:
        """It takes no more tasks."""
        return self.stats.get("state") == "draining"

    @property
    def task_events(self) -> bool | None:
        """Whether it sends events of tasks; None: Celery's workers do not say."""
        said = self.stats.get("task_events")
        return said if isinstance(said, bool) else None

    @property
    def uptime_s(self) -> float | None:
        return finite_number(self.stats.get("uptime"))

    @property
    def memory(self) -> float | None:
        """The most memory that its main process has had, in bytes."""
        usage = self.stats.get("rusage")
        said = finite_number(usage.get("maxrss")) if isinstance(usage, dict) else None
        return said * 1024.0 if said is not None and said > 0 else None

    @property
    def clock(self) -> str:
        """How far its clock is ahead of ours, or behind; empty: no more than messages take."""
        return "" if self.skew_s is None or abs(self.skew_s) < LEAST_SKEW_S else f"{self.skew_s:+.1f}s"


class QueueRow(msgspec.Struct, frozen=True):
    """One queue, as the broker counts it."""

    name: str
    ready: int
    delayed: int | None = None
    in_flight: int | None = None
    in_per_s: float | None = None  # None: not known yet, or not to be told from what goes out
    out_per_s: float | None = None
    consumers: int = 0
    paused: bool = False
    oldest_s: float | None = None  # how long the oldest has waited
    seen: bool = False  # the rates are what events add up to; else what workers say they take


class FailureRow(msgspec.Struct, frozen=True):
    """Failed tasks of one name with one exception, from the store of failed tasks."""

    name: str
    exc_type: str
    queue: str
    count: int
    first_at: float  # epoch seconds
    last_at: float
    sample: Any = None  # the newest of them: a wire.failure.Failure; seen by events only: a TaskSeen
    exact: bool = True  # they are kept, and can be tried again; else events told of them

    @property
    def filter_words(self) -> tuple[str, ...]:
        """The words that mean these tasks for `qctl failed`."""
        return (
            (f'name:"{self.name}"', f'exc:"{self.exc_type}"') if self.exc_type else (f'name:"{self.name}"',)
        )


class EventRow(msgspec.Struct, frozen=True):
    """One event as it came."""

    number: int
    event: dict[str, Any]


class Snapshot(msgspec.Struct, frozen=True):
    """Everything on the screen."""

    at: float = 0.0  # epoch seconds
    as_of: float = 0.0  # when the fleet last answered
    broker: str = ""  # address, password masked
    connected: bool = False
    trouble: str = ""  # why it is not
    tries: int = 0
    next_try_s: float = 0.0
    workers: tuple[WorkerRow, ...] = ()
    tasks: Sequence[TaskSeen] = ()  # those that were wanted, in that order
    searched: int | None = None  # so many were looked through so far; None: all were
    remembered: int = 0
    counts: dict[str, int] = {}  # remembered tasks by state
    events: int = 0
    events_per_s: float = 0.0
    done_per_s: float = 0.0
    lag_s: float = 0.0  # how old the newest event was when it came
    missed: int = 0  # events that never came
    forgotten: int = 0
    asked: bool = False  # whether the fleet was asked at least once
    queues: tuple[QueueRow, ...] = ()
    failures: tuple[FailureRow, ...] = ()
    log: Sequence[EventRow] = ()  # the last events, the newest first
    round_trip_s: float | None = None  # to the broker and back
    broker_facts: tuple[tuple[str, str], ...] = ()
    charts: Charts | None = None
    tape: str = ""  # of a recording: where it is

    @property
    def up(self) -> int:
        return sum(w.state == "online" for w in self.workers)
