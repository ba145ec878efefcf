"""Twenty entries that are due each second, for several schedulers at once.

With QCORE_TEST_CLOCK their clock is that of tests/projects/shifted.py.
"""

from __future__ import annotations

import os

from qcore import App

if os.environ.get("QCORE_TEST_CLOCK"):
    import tests.projects.shifted  # noqa: F401

app = App("every_second")
app.conf.task_default_queue = "ticks"
ENTRIES = 20


@app.task(name="tick")
def tick(number: int) -> int:
    return number


app.conf.beat_schedule = {
    f"tick-{number}": {
        "task": "tick",
        "schedule": 1.0,
        "args": (number,),
        "missed": "all",
        "missed_most": 1000,
    }
    for number in range(ENTRIES)
}
