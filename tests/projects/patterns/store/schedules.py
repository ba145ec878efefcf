"""A schedule of its own."""

from datetime import timedelta
from typing import Any

from celery.schedules import schedule


class Initiated(schedule):
    """Every interval, from a start on."""

    def __init__(self, run_every: Any = None, start: float = 0.0, **options: Any) -> None:
        self.start = start
        super().__init__(run_every=run_every or timedelta(minutes=5), **options)
