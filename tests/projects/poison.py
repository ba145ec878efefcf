"""Tasks that take their process with them."""

from __future__ import annotations

import os
import signal
import time

from qcore import App

app = App("poison")


@app.task(name="poison.die")
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="poison.add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="poison.fork_and_hang")
def fork_and_hang() -> None:
    if os.fork() == 0:
        time.sleep(100)  # with everything inherited still open
        os._exit(0)
    time.sleep(60)


@app.task(name="poison.interrupt")
def interrupt() -> None:
    raise KeyboardInterrupt("by hand")
