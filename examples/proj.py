"""A small project: `cd examples && qctl -A proj worker`, then `qctl call proj.add -a '[2,2]'`."""

import time

from qcore import App

app = App("proj")


@app.task
def add(x, y):
    """Add two numbers."""
    return x + y


@app.task
def nap(seconds=5.0):
    """Sleep, to have something to look at."""
    time.sleep(seconds)
    return f"slept {seconds} s"


@app.task(bind=True, max_retries=3, default_retry_delay=1)
def flaky(self):
    """Fail twice, then succeed: retries at work."""
    if self.request.retries < 2:
        raise self.retry(exc=RuntimeError(f"attempt {self.request.retries + 1} failed"))
    return f"succeeded at attempt {self.request.retries + 1}"


@app.task
def fail(message="boom"):
    """Fail, to see what a failure looks like."""
    raise ValueError(message)
