"""Tasks that write down what happens to them, for workers under fault."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from qcore import App
from tests.faults.history import note

app = App("faults", **json.loads(os.environ.get("FAULTS_SETTINGS", "{}")))


@app.task(name="faults.work", bind=True)
def work(self: Any, path: str, ident: str, seconds: float = 0.0, deadly: bool = False) -> str:
    """Start, sleep, finish; a deadly one kills its process the first time."""
    redelivered = bool(self.request.delivery_info["redelivered"])
    note(path, "started", ident, redelivered)
    if deadly and not redelivered:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    note(path, "finished", ident)
    return ident


@app.task(name="faults.publish", bind=True)
def publish(self: Any, path: str, ident: str) -> str:
    """Send another task from within a task."""
    note(path, "started", ident, bool(self.request.delivery_info["redelivered"]))
    app.send_task("faults.work", (path, f"{ident}-child"), ignore_result=True)
    note(path, "published", f"{ident}-child")
    note(path, "finished", ident)
    return ident


@app.task(name="faults.again", bind=True)
def again(self: Any, path: str, ident: str) -> str:
    """Two attempts, the second of which the first one asks for without ending as a retry."""
    name = f"{ident}-{self.request.retries}"
    note(path, "started", name, bool(self.request.delivery_info["redelivered"]))
    if not self.request.retries:
        note(path, "published", f"{ident}-1")
        self.retry(throw=False, countdown=0)
    note(path, "finished", name)
    return ident


@app.task(name="faults.spin")
def spin(deaf: bool = False) -> None:
    """Never end; a deaf one also blocks every signal that can be blocked."""
    if deaf:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        time.sleep(0.01)


@app.task(name="faults.add")
def add(x: int, y: int) -> int:
    return x + y


#: the same tasks under other settings
twice_app = App("faults", worker_deduplicate_successful_tasks=False, set_as_current=False)
beating_app = App("faults", broker_heartbeat=2, set_as_current=False)
hasty_app = App("faults", broker_transport_options={"confirm_timeout": 0.5}, set_as_current=False)
#: in a storm of kills the same task may be hit more often than it may take its process with it
patient_app = App("faults", task_max_deliveries=100, set_as_current=False)
for other in (twice_app, beating_app, hasty_app, patient_app):
    other.task(name="faults.work", bind=True)(work.__wrapped__)
