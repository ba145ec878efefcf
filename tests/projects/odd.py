"""Tasks that behave oddly, or have odd options, for tests of what a worker makes of that."""

from __future__ import annotations

import os
import signal
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


@app.task(name="odd.kill_server")
def kill_server() -> None:
    """End the process that has forked this one, as the kernel does when memory is short."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(30)
