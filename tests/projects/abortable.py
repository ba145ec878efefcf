"""A task that looks whether it is to stop."""

import time

from celery import Celery
from celery.contrib.abortable import AbortableTask

app = Celery("abortable")


@app.task(bind=True, base=AbortableTask, name="abortable.waits")
def waits(self, steps):
    self.update_state(state="PROGRESS", meta={"at": 0})
    for _ in range(steps):
        if self.is_aborted():
            return "aborted"
        time.sleep(0.05)
    return "ran to the end"
