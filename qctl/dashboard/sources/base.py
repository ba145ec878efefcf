"""The interface of the dashboard's data sources: a live fleet, or a recording."""

from __future__ import annotations

import contextlib
import gc
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from qctl.dashboard.state.event_log import EventLog
from qctl.dashboard.state.schedules import ScheduleLook
from qctl.dashboard.state.search import Wanted
from qctl.dashboard.state.snapshot import Snapshot

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from qcore.app.app import App


class Source(ABC):
    """Call start(), then take() for each redraw, then stop()."""

    app: App
    memory: EventLog
    #: why changes through this source are refused; empty: they are permitted
    refusal: str = ""
    #: whether alerts of this source may ring: not those of recordings and simulated fleets
    speaks: bool = False
    #: whether step(), go(), pause() and faster() have an effect
    can_seek: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether everything that the first picture shows has been read; the schedule is read on demand."""
        return True

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def take(self, wanted: Wanted | None = None) -> Snapshot:
        """The state as of now; `wanted` selects and orders the rows of tasks."""

    def look_at_schedule(self, look: ScheduleLook | None) -> None:
        """Read the schedule from now on, for this part of the screen; None: no more."""

    def ask_soon(self) -> None:
        """Query the workers before the next interval is over, since something was changed."""

    def step(self, seconds: float) -> None:
        """Move by `seconds` of the recording; negative: back."""

    def go(self, moment: datetime | timedelta) -> None:
        """Move to a moment of the recording, or to so long before its end."""

    def pause(self, paused: bool) -> None:
        """Pause the recording at the current moment, or continue."""

    def faster(self, factor: float) -> None:
        """Multiply the speed by `factor`."""


class BrokenSource(Source):
    """A fleet that cannot be opened: its context has a mistake, or its app cannot be imported. why: one
    sentence, which its snapshots say."""

    def __init__(self, why: str) -> None:
        from qcore.app.app import App

        self.app, self.memory = App("qctl", set_as_current=False), EventLog(10)
        self.why = self.refusal = why

    def start(self) -> None:
        self.memory.finder.start()

    def stop(self) -> None:
        self.memory.finder.stop()

    def take(self, wanted: Wanted | None = None) -> Snapshot:
        return Snapshot(at=time.time(), trouble=self.why, tape="not opened", charts=self.memory.charts.copy())


@contextlib.contextmanager
def startable(*feeds: Source) -> Iterator[Callable[[], None]]:
    """Yields what starts the sources, once. At the end those that were started stop at once, so a hanging
    broker delays its own end only.

    The dashboard starts them after its first picture, which needs nothing of what they import and ask for.
    Until then nothing is garbage, so the collector would only delay it: start.py turns it on.
    """
    running: list[Source] = []

    def start() -> None:
        for feed in feeds if not running else ():
            running.append(feed)
            feed.start()

    was_on = gc.isenabled()
    gc.disable()
    try:
        yield start
    finally:
        if was_on:
            gc.enable()
        if running:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(len(running)) as pool:
                list(pool.map(lambda feed: feed.stop(), running))


@contextlib.contextmanager
def started(*feeds: Source) -> Iterator[None]:
    """Run the sources; at the end all stop at once."""
    with startable(*feeds) as start:
        start()
        yield


def in_order(facts: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """The lines of the screen: what never changes comes last, where a small terminal cuts it off."""
    last = [(name, facts.pop(name)) for name in ("can",) if name in facts]
    return (*facts.items(), *last)
