"""The schedule of the simulated fleet: a real scheduler, whose messages nobody runs.

In:  the URL of the demonstration's broker.  Out: entries and their histories there; the messages go to a
broker in this process.  Before this: fleet_publisher.py.
"""

from __future__ import annotations

import threading
from typing import Any

from qcore.app.app import App
from qcore.app.schedule_entries import declared
from qcore.beat.scheduler import Scheduler
from qcore.brokers.contract.schedules import Firing
from qcore.schedules.classes import crontab
from qcore.wire.schedule import HistoryRecord, encode

NODE = "beat@demo"
ENTRIES: dict[str, dict[str, Any]] = {
    "sync-stock": {"task": "shop.sync", "schedule": 20.0},
    "resize-images": {
        "task": "shop.resize",
        "schedule": crontab(minute="*/5"),
        "options": {"queue": "images"},
    },
    "clean-carts": {
        "task": "shop.index",
        "schedule": crontab(minute="*/15"),
        "options": {"queue": "default"},
    },
    "invoices": {"task": "shop.receipt", "schedule": crontab(minute=0), "options": {"queue": "mail"}},
    "nightly-report": {
        "task": "shop.report",
        "schedule": crontab(minute=10, hour=22),
        "args": ("sales",),
        "options": {"queue": "reports"},
    },
}
#: the story: three reports were missed, and somebody paused the cleaning
MISSED, NIGHTS, PAUSED, WHO = "nightly-report", 3, "clean-carts", "ana@demo"
DAY_US = 86_400_000_000


class FleetSchedule:
    """Runs the scheduler in a thread."""

    def __init__(self, url: str) -> None:
        self.app = App("shop", broker="memory://", set_as_current=False)
        self.app.conf.update(schedule_store=url, beat_schedule=ENTRIES)
        self._scheduler = Scheduler(self.app, NODE)
        self._thread = threading.Thread(target=self._scheduler.run, name="demo-schedule", daemon=True)

    def start(self) -> None:
        """Add the story, and start. Raises QcoreError."""
        schedules, store = self.app.schedules, self.app.schedules.store
        store.declare("shop", {name: encode(one.entry) for name, one in declared(self.app).items()})
        schedules.pause(PAUSED, by=WHO)
        last_us = round(schedules.next(MISSED, 1)[0] * 1e6) - DAY_US
        records = tuple(
            HistoryRecord(last_us - night * DAY_US, "missed", last_us, by=NODE)
            for night in reversed(range(NIGHTS))
        )
        store.fire([Firing(MISSED, None, records=records, missed=NIGHTS)])
        self._thread.start()

    def stop(self) -> None:
        self._scheduler.stop()
        if self._thread.is_alive():
            self._thread.join(2.0)
