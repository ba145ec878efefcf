"""What the dashboard's screens need of a source of facts: a live fleet, or a recording of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from qctl.dashboard.state.event_log import EventLog
from qctl.dashboard.state.search import Wanted
from qctl.dashboard.state.snapshot import Snapshot

if TYPE_CHECKING:
    from qcore.app.app import App


class Source(ABC):
    """start(), then take() as often as the screen is drawn, then stop()."""

    app: App
    memory: EventLog
    #: why nothing may be changed through this source; empty: it may
    refusal: str = ""
    #: whether step(), pause() and faster() have an effect
    can_seek: bool = False

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def take(self, wanted: Wanted | None = None) -> Snapshot:
        """The state as of now; `wanted` selects and orders the rows of tasks."""

    def ask_soon(self) -> None:
        """Query the workers before the next interval is over, since something was changed."""

    def step(self, seconds: float) -> None:
        """Move forward, or back with a negative number, by so many seconds of the recording."""

    def pause(self, paused: bool) -> None:
        """Stop or continue at the present moment of the recording."""

    def faster(self, factor: float) -> None:
        """Multiply the speed by `factor`."""
