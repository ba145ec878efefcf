"""`celery.beat.Scheduler`, for packages that put something around it."""

from __future__ import annotations

from typing import Any


class Scheduler:
    """What publishes a schedule, for packages that put something around it. Nothing here does."""

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        raise NotImplementedError("nothing here publishes the schedule; `celery beat` does")
