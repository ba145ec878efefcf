"""A project with periodic tasks, for schedulers and workers in processes."""

from __future__ import annotations

import os
import time
from typing import Any

from qcore import App
from qcore.signals import beat_embedded_init, beat_init
from tests.projects.proj import note

app = App("periodic")
PATH = os.environ.get("PERIODIC_PATH", "")


@app.task(name="periodic.write", bind=True)
def write(self: Any, word: str) -> None:
    headers = self.request.headers or {}
    note(PATH, f"{word} {headers.get('periodic_task_name')} {headers.get('celery_beat_task')}")


@app.task(name="periodic.slow")
def slow(seconds: float) -> None:
    note(PATH, "begin")
    time.sleep(seconds)
    note(PATH, "end")


@beat_init.connect
@beat_embedded_init.connect
def started(signal: Any, **_: Any) -> None:
    note(PATH, signal.name)


app.conf.beat_schedule = {
    "often": {"task": "periodic.write", "schedule": 0.5, "args": ("often",)},
    "rarely": {"task": "periodic.write", "schedule": 3600.0, "kwargs": {"word": "rarely"}},
    "lazy": {"task": "periodic.write", "schedule": 0.5, "args": (lambda: "lazily",)},
}
