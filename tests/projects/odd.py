"""Tasks that behave oddly, or have odd options, for tests of what a worker makes of that."""

from __future__ import annotations

import time

from qcore import App
from tests.projects.proj import note

app = App("odd")


@app.task(name="odd.early", acks_late=False)
def early(path: str, seconds: float) -> str:
    """Acknowledged before it runs."""
    note(path, "early")
    time.sleep(seconds)
    note(path, "done early")
    return "early"
