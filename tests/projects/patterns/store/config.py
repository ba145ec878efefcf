"""The settings, as an object."""

import os
from typing import ClassVar


class Config:
    broker_url = os.environ["BROKER"]
    result_backend = os.environ["BROKER"]
    task_routes: ClassVar = {"store.export*": {"queue": "exports"}, "store.notify": {"queue": "celery"}}
    task_default_retry_delay = 1
    beat_scheduler = "tests.projects.patterns.store.schedules:Scheduler"
