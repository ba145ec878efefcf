"""The source of a fleet that cannot be opened: its context has a mistake, or its app cannot be imported.

In:  one sentence.  Out: Snapshots that say it; nothing is asked and nothing can be changed.
"""

from __future__ import annotations

import time

from qcore.app.app import App
from qctl.dashboard.sources.base import Source
from qctl.dashboard.state.event_log import EventLog
from qctl.dashboard.state.search import Wanted
from qctl.dashboard.state.snapshot import Snapshot


class BrokenSource(Source):
    """A fleet without a connection; why: one sentence."""

    def __init__(self, why: str) -> None:
        self.app, self.memory = App("qctl", set_as_current=False), EventLog(10)
        self.why = self.refusal = why

    def start(self) -> None:
        self.memory.finder.start()

    def stop(self) -> None:
        self.memory.finder.stop()

    def take(self, wanted: Wanted | None = None) -> Snapshot:
        return Snapshot(at=time.time(), trouble=self.why, tape="not opened", charts=self.memory.charts.copy())
