"""A scheduler: `qctl beat -S metronome` sends each entry of beat_schedule once a second."""

from __future__ import annotations

import threading
from typing import Any


class Metronome:
    """run() publishes until stop(); `qctl beat` calls it in a thread."""

    def __init__(self, app: Any, max_interval_s: float | None = None) -> None:
        self.app, self.every_s = app, max_interval_s or 1.0
        self.ready, self._ends = threading.Event(), threading.Event()

    def run(self) -> None:
        self.ready.set()
        while not self._ends.wait(self.every_s):
            for entry in self.app.conf.beat_schedule.values():
                self.app.send_task(entry["task"], entry.get("args"), entry.get("kwargs"))

    def stop(self) -> None:
        self._ends.set()
