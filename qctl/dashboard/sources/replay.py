"""The replay source: snapshots of a recording, at any moment of it.

In:  a file of events, a speed.  Out: Snapshots, as live.py makes them. Seeking forward folds events faster;
seeking back folds them again from the beginning.
"""

from __future__ import annotations

import math
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from qcore.events.history.reading import near, recorded, span
from qcore.events.history.slots import SLOT_S
from qctl import exit_codes
from qctl.dashboard.sources.base import Source
from qctl.dashboard.state.event_log import EventLog
from qctl.dashboard.state.failures import seen_failures
from qctl.dashboard.state.history import load, load_before, recent
from qctl.dashboard.state.schedules import ScheduleBoard
from qctl.dashboard.state.search import Wanted
from qctl.dashboard.state.series import Charts
from qctl.dashboard.state.snapshot import FailureRow, Snapshot
from qctl.dashboard.state.workers import Fleet
from qctl.output.text import stamp

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.wire.event import Event

TICK_S = 0.02
#: of a folder so many seconds and events before a moment are read to show it
NEAR_S, NEAR_EVENTS = 900.0, 20_000
LOOK_EVERY_S = 1.0
#: what only the longer ranges show is read so long after the rest, seconds: a single picture needs none of it
LATER_S = 2.0
NO_SCHEDULE = ScheduleBoard(True, "a recording holds events only, not the schedule")


class Replay(Source):
    """The state of a recording; start(), then take() for each redraw, then stop()."""

    refusal = "this is a recording"
    can_seek = True

    def __init__(
        self,
        app: App,
        path: str,
        speed: float,
        max_tasks: int,
        max_bytes: int | None,
        moment: datetime | timedelta | None = None,
    ) -> None:
        """speed: seconds of the recording per second; 0: go to the end at once. moment: where to begin, or
        how long before the end. Raises CommandError when the recording has no event."""
        self.app, self.path, self.speed = app, path, speed
        found = span(path)
        if found is None:
            raise exit_codes.CommandError(
                exit_codes.USAGE, f"there is no event in '{path}'", "`qctl events --record` makes one"
            )
        self.begin, self.end = found
        self._limits = (max_tasks, max_bytes)
        self.memory = EventLog(*self._limits)
        self._now = self.begin if speed > 0 else self.end
        if moment is not None:
            self._now = min(max(self._at(moment), self.begin), self.end)
        self._is_folder = Path(path).is_dir()
        self._since = self.begin  # what is read of a folder begins there
        self._later_at: float | None = None  # when older history is read, by the monotonic clock; None: it is
        self._paused = self._stopped = self._again = False
        self._caught_up = False  # whether everything up to the current moment was folded
        self._folded = self.begin  # time of the last folded batch
        self._failures: tuple[FailureRow, ...] = ()
        self._looked = 0.0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._play, name="tape", daemon=True)

    def start(self) -> None:
        self.memory.finder.start()
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self.memory.finder.stop()
        self._thread.join(2.0)

    # --- where it is

    def step(self, seconds: float) -> None:
        self._go(self._now + seconds)

    def go(self, moment: datetime | timedelta) -> None:
        self._go(self._at(moment))

    def _at(self, moment: datetime | timedelta) -> float:
        return moment.timestamp() if isinstance(moment, datetime) else self.end - moment.total_seconds()

    def _go(self, at: float) -> None:
        at = min(max(at, self.begin), self.end)
        is_far = self._is_folder and at - self._folded > SLOT_S and self._near(at) > self._folded
        with self._lock:
            self._now = at
            self._again = self._again or at < self._folded or is_far

    def _near(self, at: float) -> float:
        """From when on a folder is read to show a moment."""
        return max(near(self.path, at, NEAR_EVENTS, NEAR_S), self.begin)

    def pause(self, paused: bool) -> None:
        self._paused = paused

    def faster(self, factor: float) -> None:
        self.speed = min(max((self.speed or 1.0) * factor, 0.125), 1024.0)

    @property
    def is_complete(self) -> bool:
        return self._caught_up and not self._again

    @property
    def is_at_end(self) -> bool:
        return self._now >= self.end

    def _play(self) -> None:
        while not self._stopped:
            self._again = self._caught_up = False
            self._begin_near()
            with recorded(self.path, self._since if self._is_folder else None) as batches:
                for at, batch in batches:
                    while at > self._now and not (self._again or self._stopped):
                        self._tick()
                    if self._again or self._stopped:
                        break
                    self._fold(batch, at)
            while not (self._again or self._stopped):
                self._tick()
            if self._again:
                self._rewind()

    def _begin_near(self) -> None:
        """Of a folder, read only what is near the current moment; the charts get the rest from indexes."""
        if not self._is_folder:
            return
        self._since = self._near(self._now)
        charts = Charts()
        load(charts, self.path, self._since, recent(self._since))
        self.memory.charts = charts
        self._folded, self._later_at = self._since, math.inf

    def _read_older(self) -> None:
        """Read what only the longer ranges show."""
        older = load_before(self.path, self._since, recent(self._since))
        with self.memory.lock:
            self.memory.charts.put_before(older, self._folded)
        self._later_at = None

    def _fold(self, batch: list[Event], at: float) -> None:
        self.memory.fold(batch, at)
        if int(at) != int(self._folded):
            with self.memory.lock:
                self.memory.rates(at)
        self._folded = at

    def _tick(self) -> None:
        if not self._caught_up:
            self._looked, self._caught_up = 0.0, True
            self._later_at = None if self._later_at is None else time.monotonic() + LATER_S
        time.sleep(TICK_S)
        if self._later_at is not None and time.monotonic() > self._later_at:
            self._read_older()
        if not self._paused:
            with self._lock:
                self._now = min(self._now + TICK_S * self.speed, self.end)

    def _rewind(self) -> None:
        self.memory.finder.stop()
        fresh = EventLog(*self._limits)
        fresh.finder.start()
        self.memory, self._folded = fresh, self.begin

    # --- what is seen

    def take(self, wanted: Wanted | None = None) -> Snapshot:
        """The snapshot at the current moment of the recording."""
        memory, now = self.memory, self._now
        with memory.lock:
            # While events are folded up to a later moment, only _fold() counts, at the time of the events.
            events_per_s, done_per_s = memory.rates(now) if self._caught_up else (None, None)
            tasks, found = memory.tasks(wanted or Wanted())
            if time.monotonic() - self._looked > LOOK_EVERY_S:
                self._looked, self._failures = time.monotonic(), seen_failures(memory.state.table)
            return Snapshot(
                at=now,
                as_of=now,
                broker=self.path,
                connected=True,
                asked=True,
                workers=Fleet().rows(memory.state.workers, now),
                tasks=tasks,
                searched=None if found is None or found.complete else found.looked_at,
                remembered=len(memory.state.table),
                counts=memory.counts,
                events=memory.state.events,
                events_per_s=events_per_s,
                done_per_s=done_per_s,
                missed=memory.missed,
                forgotten=memory.state.forgotten,
                failures=self._failures,
                log=memory.log(),
                broker_facts=(
                    ("recording", self.path),
                    ("read since", stamp(self._since)),
                    *memory.facts().items(),
                ),
                charts=memory.charts.copy(),
                schedules=NO_SCHEDULE,
                tape=self._where(now),
            )

    def _where(self, now: float) -> str:
        share = (now - self.begin) / (self.end - self.begin) if self.end > self.begin else 1.0
        bar = "=" * round(share * 8)
        state = "end" if self.is_at_end else "paused" if self._paused else f"x{self.speed:g}"
        return f"[{bar:<8}] {share:.0%} {state}"
