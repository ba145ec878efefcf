"""The immutable state of a fleet at one moment; views and screens draw nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from qcore.events.store.table import TaskSeen
from qcore.wire.event import finite_number
from qctl.dashboard.state.schedules import ScheduleBoard
from qctl.dashboard.state.series import Charts

#: clock differences below this are not reported, seconds
LEAST_SKEW_S = 2.0
#: time that workers have to reconnect after an outage of the broker, and to be asked again, seconds
RECONNECT_S = 10.0


class WorkerRow(msgspec.Struct, frozen=True):
    """One worker."""

    node: str
    state: str  # online, silent, gone
    running: int | None = None
    slots: int | None = None
    done: int | None = None
    held: int | None = None  # messages that it has and has not acknowledged, running ones too
    load: float | None = None
    age_s: float | None = None  # since its last heartbeat or reply
    queues: tuple[str, ...] = ()
    software: str = ""
    pid: int | None = None
    missed: int = 0  # its events that never arrived, until LOST_SHOWN_S after the last such loss
    stats: dict[str, Any] = {}
    exact: bool = True  # the numbers are from its own reply; else from its events
    per_s: float | None = None  # tasks started per second lately, by its own count
    failed: int = 0  # failed tasks since the dashboard subscribed
    skew_s: float | None = None  # its clock minus the local clock
    left: bool = False  # it shut down in order

    @property
    def draining(self) -> bool:
        """Whether it claims no more messages."""
        return self.stats.get("state") == "draining"

    @property
    def task_events(self) -> bool | None:
        """Whether it sends task events; None: unknown, Celery's workers do not report it."""
        value = self.stats.get("task_events")
        return value if isinstance(value, bool) else None

    @property
    def uptime_s(self) -> float | None:
        return finite_number(self.stats.get("uptime"))

    @property
    def memory(self) -> float | None:
        """The peak memory of its main process, bytes."""
        usage = self.stats.get("rusage")
        value = finite_number(usage.get("maxrss")) if isinstance(usage, dict) else None
        return value * 1024.0 if value is not None and value > 0 else None

    @property
    def clock(self) -> str:
        """The difference of its clock to the local one; empty below LEAST_SKEW_S."""
        return "" if self.skew_s is None or abs(self.skew_s) < LEAST_SKEW_S else f"{self.skew_s:+.1f}s"


class QueueRow(msgspec.Struct, frozen=True):
    """One queue, with the broker's counts."""

    name: str
    ready: int
    delayed: int | None = None
    in_flight: int | None = None
    in_per_s: float | None = None  # None: not known yet, or not derivable from the departures
    out_per_s: float | None = None
    consumers: int | None = None  # None: the workers were not asked yet
    paused: bool = False
    oldest_s: float | None = None  # age of the oldest message
    seen: bool = False  # the rates are derived from events; else announced by workers
    pause_ignored_by: tuple[str, ...] = ()  # Celery workers that consume it although it is paused

    @property
    def empty_in_s(self) -> float | None:
        """Seconds until nothing is ready, at the current rates; infinite: it grows; None: unknown."""
        if not self.ready:
            return 0.0
        if self.in_per_s is None or self.out_per_s is None:
            return None
        gain = self.out_per_s - self.in_per_s
        return self.ready / gain if gain > 0 else math.inf


class FailureRow(msgspec.Struct, frozen=True):
    """Failed tasks with the same name and exception."""

    name: str
    exc_type: str
    queue: str
    count: int
    first_at: float  # epoch seconds
    last_at: float
    sample: Any = None  # the newest: a wire.failure.FailedTask; from events: a TaskSeen
    exact: bool = True  # all are in the store of failed tasks; else events told of some
    stored: int | None = None  # how many are in the store, and can be retried; None: all, if exact

    @property
    def retryable(self) -> int:
        """How many can be retried."""
        return self.stored if self.stored is not None else self.count if self.exact else 0

    @property
    def filter_words(self) -> tuple[str, ...]:
        """The words of the filter that selects these tasks, for `qctl failed`."""
        return (
            (f'name:"{self.name}"', f'exc:"{self.exc_type}"') if self.exc_type else (f'name:"{self.name}"',)
        )


class EventRow(msgspec.Struct, frozen=True):
    """One event as received."""

    number: int
    event: dict[str, Any]


class Snapshot(msgspec.Struct, frozen=True):
    """All data on the screen."""

    at: float = 0.0  # epoch seconds
    as_of: float = 0.0  # time of the fleet's last reply
    broker: str = ""  # address, password masked
    connected: bool = False
    trouble: str = ""  # why it is not connected
    tries: int = 0
    next_try_s: float = 0.0
    workers: tuple[WorkerRow, ...] = ()
    tasks: Sequence[TaskSeen] = ()  # the selected tasks, in order
    searched: int | None = None  # number of rows searched so far; None: all
    remembered: int = 0
    counts: dict[str, int] = {}  # remembered tasks by state
    events: int = 0
    events_per_s: float | None = None  # over event_log.RATE_WINDOW_S; None: unknown, no events arrive
    done_per_s: float | None = None
    lag_s: float = 0.0  # age of the newest event when it was folded
    missed: int = 0  # events that never arrived
    forgotten: int = 0
    asked: bool = False  # whether the fleet has been queried at least once
    looked: bool = False  # whether queues and failures have been read at least once
    queues: tuple[QueueRow, ...] = ()
    failures: tuple[FailureRow, ...] = ()
    log: Sequence[EventRow] = ()  # the last events, newest first
    round_trip_s: float | None = None  # response time of the broker
    broker_facts: tuple[tuple[str, str], ...] = ()
    broker_numbers: dict[str, float | None] = {}  # BrokerFacts.numbers of the last poll
    charts: Charts | None = None
    schedules: ScheduleBoard = ScheduleBoard()
    episodes: Sequence[Any] = ()  # of alerts; views/episodes.py
    tape: str = ""  # for a recording: its position
    back_at: float | None = None  # epoch seconds: when the broker answered again; None: it always did

    @property
    def is_settling(self) -> bool:
        """Whether workers may still be reconnecting after an outage of the broker: nobody is silent yet."""
        return self.back_at is not None and self.at - self.back_at < RECONNECT_S

    @property
    def up(self) -> int:
        return sum(w.state == "online" for w in self.workers)

    @property
    def expected(self) -> int:
        """The workers that should be up: all that did not shut down in order."""
        return sum(not w.left for w in self.workers)
