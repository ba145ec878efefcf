"""Tasks with options of their own."""

from __future__ import annotations

import time

from qcore import App

app = App("tracked")


@app.task(name="tracked.nap", track_started=True)
def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


@app.task(name="tracked.early", acks_late=False)
def early(x: int) -> int:
    return x * 2
